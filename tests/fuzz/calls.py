"""Random orders of calls of a model, compared with a new model."""

from __future__ import annotations

import copy
import warnings
from random import Random
from typing import Any

import deepinv as dinv
import torch
from torch import Tensor

import deepinv_equilibrium as deq

from .outcomes import NAMED, WrongAnswerError, close, raised_in, require
from .solves import one_in

CALLS = 5


class Smooth(dinv.models.Denoiser):
    """A contraction with trained weights, for any number of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        mean = torch.nn.functional.avg_pool2d(x, 3, 1, 1)
        return 0.5 * x + self.a * torch.tanh(mean)


def some_configuration(draw: Random) -> Any:
    accurate = deq.Equilibrium(
        deq.Anderson(rtol=1e-5, max_iter=200), deq.Implicit(deq.GMRES(rtol=1e-5))
    )
    return draw.choice(
        [
            accurate,
            accurate,
            deq.Equilibrium(deq.Picard(rtol=1e-5, max_iter=500), deq.JacobianFree()),
            deq.Equilibrium(deq.Broyden(rtol=1e-5), deq.SHINE()),
            deq.ReTune(draw.choice([1, 3]), draw.choice([1, 4])),
            deq.Equilibrium(deq.Picard(max_iter=4, rtol=0.0), deq.Unrolled()),
        ]
    )


def some_model(draw: Random) -> Any:
    kind = draw.choice(["PGD", "GD", "HQS", "DRS", "ADMM", "FISTA"])
    prior = deq.optim.RED(Smooth()) if kind == "GD" else dinv.optim.PnP(Smooth())
    return getattr(deq.optim, kind)(
        data_fidelity=dinv.optim.L2(),
        prior=prior,
        stepsize=draw.choice([0.2, 0.7]),
        lambda_reg=0.5,
        sigma_denoiser=0.1,
        DEQ=some_configuration(draw),
    )


def some_physics(draw: Random, batch: int, size: tuple[int, ...]) -> Any:
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    kind = draw.choice(["mask", "masks", "blur", "denoising"])
    if kind == "denoising":
        return dinv.physics.Denoising()
    if kind == "blur":
        kernel = torch.rand(1, 1, 3, 3, generator=generator)
        return dinv.physics.BlurFFT(size, filter=kernel / kernel.sum())
    count = batch if kind == "masks" else 1
    mask = (torch.rand(count, *size, generator=generator) > 0.3).float()
    return dinv.physics.Inpainting(size, mask=mask)


def change(draw: Random, model: Any) -> Any:
    """Change a model in a way that must not change what it computes, or as a user does
    between two calls."""
    choice = draw.randrange(9)
    if choice == 0:
        model.DEQ = some_configuration(draw)
    elif choice == 1:
        model.train(not model.training)
    elif choice == 2:
        model = copy.deepcopy(model)
    elif choice == 3:
        model.DEQ = model.DEQ
    elif choice == 4:
        model.load_state_dict(copy.deepcopy(model.state_dict()))
    elif choice == 5:
        model = model.to(draw.choice([torch.float32, torch.float64]))
    elif choice == 6:
        model.zero_grad(set_to_none=one_in(draw, 2))
    elif choice == 7:
        model.requires_grad_(one_in(draw, 2))
    else:
        model.max_iter = draw.choice([0, 3, 100])
    return model


def spoiled(draw: Random, y: Tensor) -> Tensor:
    """Return a measurement that is wrong in some way."""
    choice = draw.randrange(6)
    if choice == 0:
        return y[0]
    if choice == 1:
        return y[..., :-1]
    if choice == 2:
        return y.to(draw.choice([torch.int64, torch.float16]))
    if choice == 3:
        return y.repeat(1, 2, 1, 1)
    if choice == 4:
        return torch.full_like(y, torch.nan)
    return y[:0]


def call(draw: Random) -> str:
    """Make random calls, some of them wrong, and compare each with the first call of a
    new model."""
    model, refused = some_model(draw), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(CALLS):
            try:
                model = change(draw, model)
                compare(draw, model)
            except WrongAnswerError:
                raise
            except NAMED as error:
                raised_in(error)
                refused += 1
    return f"called, {refused} of {CALLS} refused"


def compare(draw: Random, model: Any) -> None:
    """Call a model and a new one with the same weights and configuration."""
    batch, size = draw.choice([1, 2, 3]), (draw.choice([1, 3]), 5, 6)
    physics = some_physics(draw, batch, size)
    dtype = draw.choice([torch.float32, torch.float32, torch.float64])
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    x = torch.rand(batch, *size, generator=generator, dtype=dtype)
    y = physics.A(x).detach()
    if one_in(draw, 12):
        y = spoiled(draw, y)
    new = copy.deepcopy(model)
    new.solution = None
    context = torch.no_grad if one_in(draw, 3) else torch.enable_grad
    with context():
        found, expected = model(y, physics), new(y, physics)
    if y.dtype != torch.float16:  # the weights have single precision
        require(found.dtype == y.dtype, f"{found.dtype} for {y.dtype}")
    require(len(found) == batch, "number of images")
    bad = torch.isnan(expected)
    require(bool((torch.isnan(found) == bad).all()), "NaN in other places")
    close(found.detach()[~bad], expected.detach()[~bad], 1e-4)
    if found.requires_grad and one_in(draw, 2):
        found.square().sum().backward()
