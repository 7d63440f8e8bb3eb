"""Contracts about the proximal operator of a prior."""

from __future__ import annotations

import torch
from torch import Tensor

from ...certificates.declarations import declares
from ..contracts import NotApplicableError, require, require_close
from ..largest_stretch import StretchSearch
from ..random_problems import normal
from .prior_case import GAMMAS, PriorCase
from .proximal_objective import ProximalObjective


def has_the_minimising_prox(case: PriorCase) -> None:
    r"""``prox`` minimises :math:`F(u) = \gamma g(u) + \frac12 \|u - x\|^2`: no other
    image is lower, and with a convex prior :math:`F(u) \geq F(z) + \frac12 \|u - z\|^2`
    at :math:`z = \operatorname{prox}_{\gamma g}(x)`."""
    case.require_energy()
    case.require_prox()
    x = case.images
    with torch.no_grad():
        values = {gamma: case.prox(x, gamma) for gamma in GAMMAS}
    for gamma, z in values.items():
        require(z.shape == x.shape, f"prox has shape {tuple(z.shape)}")
        objective = ProximalObjective(case.energy, x, gamma)
        rivals = dict(objective.rivals(z))
        for other in set(GAMMAS) - {gamma}:
            rivals[f"prox with gamma={other:g}"] = values[other]
        for name, u in rivals.items():
            _require_lower(case, objective, z, name, u)


@torch.no_grad()
def _require_lower(
    case: PriorCase, objective: ProximalObjective, z: Tensor, name: str, u: Tensor
) -> None:
    """Require that the proximal operator z is lower than its rival u, up to rtol."""
    least = objective(z)
    require(
        least.isfinite().all(),
        f"the energy at prox(x, gamma={objective.gamma:g}) is {least.tolist()}",
    )
    size = z.flatten(1).norm(dim=1)
    distance = (u - z).flatten(1).norm(dim=1)
    scale = least.abs() + objective.x.flatten(1).square().sum(dim=1)
    slack = (1e-12 + case.rtol) * scale
    above = torch.zeros_like(distance)
    if case.convex:
        above = distance.square() / 2
        slack = slack + (1e-6 + case.rtol) * size * distance
    margin = objective(u) - least - above + slack
    i = int(margin.argmin())
    require(
        margin[i] >= 0,
        f"prox(x, gamma={objective.gamma:g}) of image {i} is not the minimiser: {name} "
        f"has the energy {float(objective(u)[i]):.8g}; that of prox, "
        f"{float(least[i]):.8g}, must be less by {float(above[i] - slack[i]):.3g}",
    )


def meets_the_optimality_condition(case: PriorCase) -> None:
    r"""``prox`` and ``grad`` agree: :math:`z - x + \gamma \nabla g(z) = 0` at
    :math:`z = \operatorname{prox}_{\gamma g}(x)`."""
    case.require_gradient(own=True)
    case.require_prox()
    for gamma in GAMMAS:
        z = case.prox(case.images, gamma).detach()
        pull = gamma * case.gradient(z).detach()
        what = f"gamma grad(z) at z = prox(x, gamma={gamma:g})"
        require_close(what, pull, case.images - z, 1e-6 + 10 * case.rtol)


def takes_a_weight_for_each_sample(case: PriorCase) -> None:
    r"""``gamma`` of shape :math:`(B, 1, 1, 1)` gives each sample its own weight."""
    case.require_prox()
    x = case.images
    gamma = torch.linspace(*GAMMAS, len(x), dtype=x.dtype, device=x.device)
    with torch.no_grad():
        together = case.prox(x, gamma.reshape(-1, *[1] * (x.ndim - 1)))
        for i in range(len(x)):
            alone = case.prox(x[i : i + 1], float(gamma[i]))[0]
            what = f"prox of image {i} with a gamma of its own"
            require_close(what, together[i], alone, 1e-10 + case.rtol)


def respects_its_prox_bounds(case: PriorCase) -> None:
    """``prox`` moves no two images further apart than ``lipschitz_bound`` and
    ``is_firmly_nonexpansive`` allow, where they are declared."""
    case.require_prox()
    prior = case.component
    search = StretchSearch(lambda x: case.prox(x, 1.0), case.images, case.rtol)
    held = False
    if declares(prior, "lipschitz_bound", "prox"):
        bound = prior.lipschitz_bound(tuple(case.img_size))
        search.require_lipschitz("prox", bound.value, bound.source)
        held = True
    firm = "is_firmly_nonexpansive"
    if case.convex or (declares(prior, firm, "prox") and getattr(prior, firm) is True):
        source = "the proximal operator of a convex function"
        search.require_lipschitz("2 prox - I", 1.0, source, 2.0, -1.0)
        held = True
    if not held:
        raise NotApplicableError("not declared")


def has_the_derivative_of_its_prox(case: PriorCase) -> None:
    """Automatic differentiation of ``prox`` agrees with central differences."""
    case.require_prox()
    x = case.images.detach().requires_grad_()
    gamma = torch.tensor(GAMMAS[0], dtype=x.dtype, device=x.device, requires_grad=True)
    v, w = (normal(*x.shape, seed=seed).to(x) for seed in (43, 44))
    value = case.prox(x, gamma)
    require(value.requires_grad, "prox carries no gradient of the image")
    by_x, by_gamma = torch.autograd.grad(
        (w * value).sum(), (x, gamma), allow_unused=True
    )
    h = 1e-6
    with torch.no_grad():
        ends = [case.prox(x + sign * h * v, gamma) for sign in (1, -1)]
    expected = (w * (ends[0] - ends[1])).flatten(1).sum(1) / (2 * h)
    tolerance = 1e-4 + 100 * case.rtol
    found = (by_x * v).flatten(1).sum(1)
    require_close("the derivative of prox in a direction", found, expected, tolerance)
    with torch.no_grad():
        ends = [case.prox(x, gamma + sign * h) for sign in (1, -1)]
    expected = (w * (ends[0] - ends[1])).sum() / (2 * h)
    found = torch.zeros_like(expected) if by_gamma is None else by_gamma
    require_close("the derivative of prox in gamma", found, expected, tolerance)
