"""Contracts about the values and the gradient of a prior."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..contracts import (
    NotApplicableError,
    require,
    require_close,
    require_declared,
)
from ..largest_stretch import StretchSearch
from ..random_problems import normal
from .prior_case import GAMMAS, PriorCase


def returns_one_number_a_sample(case: PriorCase) -> None:
    """``fn`` returns one number for each sample, which is not NaN and does not depend
    on the other samples."""
    case.require_energy()
    x = case.images
    with torch.no_grad():
        value = case.energy(x)
        require(
            value.shape == (len(x),),
            f"fn of {len(x)} images has shape {tuple(value.shape)}, not ({len(x)},)",
        )
        require(not value.isnan().any(), f"fn is {value.tolist()}")
        for i in range(len(x)):
            alone = case.energy(x[i : i + 1])[0]
            if math.isfinite(alone):
                require_close(f"fn of image {i} in a batch", value[i], alone, 1e-12)


def has_the_gradient_of_its_values(case: PriorCase) -> None:
    """``grad`` agrees with central differences of ``fn``."""
    case.require_energy()
    case.require_gradient()
    x = case.images
    v = normal(*x.shape, seed=41).to(x)
    gradient = case.gradient(x).detach()
    require(
        gradient.shape == x.shape,
        f"grad of images {tuple(x.shape)} has shape {tuple(gradient.shape)}",
    )
    h = 1e-6
    with torch.no_grad():
        ends = [case.energy(x + sign * h * v) for sign in (1, -1)]
    expected = (ends[0] - ends[1]) / (2 * h)
    found = (gradient * v).flatten(1).sum(dim=1)
    require(expected.isfinite().all(), "fn is infinite where grad is asked for")
    require_close("grad in a random direction", found, expected, 1e-5)


def keeps_samples_apart(case: PriorCase) -> None:
    """``grad`` and ``prox`` of an image do not depend on the other images."""
    x = case.images
    calls: dict[str, Callable[[Tensor], Tensor]] = {}
    for name, needed, call in (
        ("grad", case.require_gradient, case.gradient),
        ("prox", case.require_prox, lambda x: case.prox(x, GAMMAS[0])),
    ):
        try:
            needed()
        except NotApplicableError:
            continue
        calls[name] = call
    if not calls:
        raise NotApplicableError("neither grad nor prox is defined")
    for name, call in calls.items():
        together = call(x).detach()
        for i in range(len(x)):
            alone = call(x[i : i + 1]).detach()[0]
            what = f"{name} of image {i} in a batch"
            require_close(what, together[i], alone, 1e-12 + case.rtol)


def is_convex_as_declared(case: PriorCase) -> None:
    """The energy of a convex prior lies below its chords, and its gradient is
    monotone."""
    if not case.convex:
        raise NotApplicableError("not declared")
    case.require_energy()
    x = case.images
    y = x.flip(0) + 0.1 * normal(*x.shape, seed=42).to(x)
    with torch.no_grad():
        ends = (case.energy(x) + case.energy(y)) / 2
        middle = case.energy((x + y) / 2)
    finite = ends.isfinite()
    excess = (middle - ends)[finite] / ends[finite].abs().clamp_min(1e-12)
    require(
        (excess <= 1e-9).all(),
        f"the energy in the middle of two images exceeds the mean of both by "
        f"{_largest(excess):.2e} of it",
    )
    try:
        case.require_gradient()
    except NotApplicableError:
        return
    products = ((case.gradient(x) - case.gradient(y)) * (x - y)).flatten(1).sum(1)
    require(
        (products >= -1e-9 * products.abs().max()).all(),
        f"<grad(x) - grad(y), x - y> is {float(products.detach().min()):.2e}",
    )


def respects_its_gradient_bounds(case: PriorCase) -> None:
    r"""The gradient :math:`G` has the curvatures :math:`[m, L]` of ``gradient_bounds``,
    where they are declared: :math:`G - \tfrac{m + L}{2} I` moves no two images further
    apart than by :math:`\tfrac{L - m}{2}`, or, for :math:`L = \infty`, :math:`G - m I`
    is monotone."""
    require_declared(case.component, "gradient_bounds", "grad", "fn")
    ends = case.component.gradient_bounds(tuple(case.img_size))
    m, L = ends.lower.value, ends.upper.value
    search = StretchSearch(case.gradient, case.images)
    search.require_strong_monotonicity("the gradient", m, ends.lower.source)
    if math.isfinite(L):
        search.require_lipschitz("the gradient", L, ends.upper.source)
        source = f"curvatures between {m:.8g} and {L:.8g} are declared"
        what = "the gradient minus (m + L) / 2 times the image"
        search.require_lipschitz(what, (L - m) / 2, source, 1.0, -(m + L) / 2)


def _largest(values: Tensor) -> float:
    return float(values.max()) if values.numel() else 0.0
