"""What is certified of models with the bundled weights, on photos."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import deepinv as dinv
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Convergence

from .dense import flat
from .draws import Draw, choose, generator
from .outcomes import ask, require, run
from .random_models import ModelCase
from .random_physics import PhysicsCase
from .steps import step_of

SIDE, STEPS = 12, 4
SIGMA = 0.1


def proximal(algorithm: str, denoiser: Callable[..., Any], **options: Any) -> Any:
    """Return a model of a bundled denoiser with a strongly convex data fidelity."""
    step_size: Any = "auto" if algorithm in ("PGD", "HQS", "DRS") else 1.0
    return getattr(deq.optim, algorithm)(
        data_fidelity=deq.optim.RidgeL2(kappa=0.1),
        prior=dinv.optim.PnP(denoiser(**options)),
        stepsize=step_size,
        sigma_denoiser=SIGMA,
        DEQ=deq.Equilibrium(deq.Picard()),
    )


def descent(weak_convexity: float, kappa: float, in_channels: int = 1) -> Any:
    """Return gradient descent with the bundled ridge regulariser."""
    prior = deq.models.RidgeRegulariser(in_channels, weak_convexity=weak_convexity)
    fidelity = deq.optim.RidgeL2(kappa=kappa) if kappa else dinv.optim.L2()
    return deq.optim.GD(
        data_fidelity=fidelity,
        prior=prior,
        stepsize="auto",
        lambda_reg=0.5,
        sigma_denoiser=SIGMA,
        DEQ=deq.Equilibrium(deq.Picard()),
    )


RIDGE, POTENTIAL = deq.models.RidgeProxDenoiser, deq.models.ConvexPotentialDenoiser
MODELS: dict[str, Callable[[], Any]] = {
    "GD, convex ridge, contracts": lambda: descent(0.0, 0.1),
    "GD, convex ridge": lambda: descent(0.0, 0.0),
    "GD, weakly convex ridge": lambda: descent(1.0, 0.0),
    "GD, colour ridge": lambda: descent(0.0, 0.0, 3),
    "GD, weakly convex colour ridge": lambda: descent(1.0, 0.0, 3),
    "PGD, convex ridge": lambda: proximal("PGD", RIDGE),
    "PGD, convex ridge, contraction": lambda: proximal("PGD", RIDGE, contraction=0.9),
    "PGD, weakly convex ridge": lambda: proximal("PGD", RIDGE, weak_convexity=1.0),
    "PGD, colour ridge": lambda: proximal("PGD", RIDGE, in_channels=3),
    "DRS, convex ridge": lambda: proximal("DRS", RIDGE),
    "HQS, convex ridge": lambda: proximal("HQS", RIDGE),
    "HQS, weakly convex ridge": lambda: proximal("HQS", RIDGE, weak_convexity=1.0),
    "PGD, potential": lambda: proximal("PGD", POTENTIAL, in_channels=1),
    "ADMM, firmly nonexpansive potential": lambda: proximal(
        "ADMM", POTENTIAL, in_channels=1, firmly_nonexpansive=True
    ),
    "PGD, colour potential": lambda: proximal("PGD", POTENTIAL, in_channels=3),
}


@cache
def bundled(name: str) -> Any:
    """Return a model in float64."""
    return MODELS[name]().double().eval()


@cache
def photos(channels: int) -> torch.Tensor:
    """Return crops of photos, each of another part."""
    crops = deq.datasets.Photos(
        "test", grey=channels == 1, img_size=SIDE, crops=200, seed=0
    )
    return torch.stack([crop["x"] for crop in crops]).double()


def energy_of(case: ModelCase, y: torch.Tensor) -> Callable[[torch.Tensor], Any]:
    """Return the energy of gradient descent, or of PGD or HQS with a denoiser that is
    the proximal operator of the regulariser, with weight 1."""
    parameters = case.model.update_params_fn(0)
    fidelity, prior = case.model.update_data_fidelity_fn(0), case.model.prior[0]
    regulariser, weight = prior, parameters["lambda"]
    tau, level = parameters["stepsize"], parameters["g_param"]
    if isinstance(prior, dinv.optim.PnP):
        regulariser, weight = prior.denoiser.regulariser, 1 / tau

    def value(x: torch.Tensor) -> torch.Tensor:
        z, distance = x, torch.zeros(len(x), dtype=x.dtype)
        if "HQS" in case.algorithm:  # the Moreau envelope of the data fidelity
            z = fidelity.prox(
                x, y.expand(len(x), *y.shape[1:]), case.physics, gamma=tau
            )
            distance = flat(z - x).square().sum(1) / (2 * tau)
        return (
            fidelity(z, y, case.physics) + distance + weight * regulariser.fn(x, level)
        )

    return value


def some_physics(channels: int, rng: Any) -> Any:
    """Return a denoising, deblurring or inpainting problem."""
    size = (channels, SIDE, SIDE)
    kind = rng.choice(["denoising", "blur", "inpainting"])
    if kind == "denoising":
        return dinv.physics.Denoising().double()
    if kind == "blur":
        kernel = torch.rand(1, 1, 3, 3, generator=rng.torch, dtype=torch.float64)
        return dinv.physics.BlurFFT(size, kernel / kernel.sum()).double()
    mask = (torch.rand(size, generator=rng.torch) > 0.3).double()
    return dinv.physics.Inpainting(size, mask=mask).double()


def bundled_models(draw: Draw) -> None:
    """Iterations and solutions of models with the bundled weights, from several starts
    and measurements of a photo, keep what is certified."""
    name, rng = choose(draw, tuple(MODELS)), generator(draw)
    model, channels = bundled(name), 3 if "colour" in name else 1
    physics = some_physics(channels, rng)
    case = ModelCase(model, PhysicsCase(physics, (channels, SIDE, SIDE)), name)
    certificate = ask(deq.certify, model, physics, case.size)
    proved = certificate.convergence
    require(proved is not Convergence.UNPROVED, f"nothing is proved of {case}")
    x = rng.choice(list(photos(channels)))[None]
    with torch.no_grad():
        clean = run(physics.A, x)
    y = clean + 0.05 * rng.normal(*clean.shape)
    other = y + rng.power(-4, 0) * rng.normal(*y.shape)
    starts = torch.cat([rng.normal(*x.shape), x, x + 1e-3 * rng.normal(*x.shape)])
    step = step_of(case, y.repeat(3, *[1] * (y.ndim - 1)))
    energy = None
    # A denoiser that contracts is the proximal operator of another function, whose
    # values are not computed.
    known = getattr(getattr(model.prior[0], "denoiser", None), "contraction", 1) == 1
    if known and certificate.energy is not None and certificate.energy.decreases:
        energy, least = energy_of(case, y), certificate.energy.decrease.value
    with torch.no_grad():
        for _ in range(STEPS):
            moved = run(step, starts)
            before = flat(starts - starts.roll(1, 0)).norm(dim=1)
            after = flat(moved - moved.roll(1, 0)).norm(dim=1)
            if proved is not Convergence.DECREASES:
                rate = min(certificate.rate.value, 1.0)
                worst = float((after - rate * before).max())
                require(worst <= 1e-8, f"{before} to {after}, {case}")
            if energy is not None:
                values = energy(starts) - energy(moved)
                fall = least * flat(moved - starts).norm(dim=1).square()
                worst = float((fall - values).max())
                require(worst <= 1e-8, f"energy falls by {values}, {case}")
            starts = moved
    if proved is not Convergence.CONTRACTS:
        return
    model.DEQ.solver = deq.Anderson(max_iter=300, rtol=1e-9)
    ys = torch.cat([y, y, other])
    with torch.no_grad():
        init = (starts, torch.zeros_like(starts))
        first, second, third = run(model, ys, physics, init=init)
    model.DEQ.solver = deq.Picard()
    short = 1e-6 / (1 - certificate.rate.value)
    require(bool((first - second).norm() <= short), f"two fixed points of {case}")
    limit = certificate.stability.value * float((y - other).norm()) + short
    require(bool((first - third).norm() <= limit), f"stability of {case}")
