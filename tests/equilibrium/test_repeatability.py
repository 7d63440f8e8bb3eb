"""Models whose step is random or remembers earlier calls."""

from __future__ import annotations

import random
import warnings
from typing import Any

import deepinv as dinv
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deepinv_equilibrium as deq

from ..one_test import in_one_test

F64 = torch.float64
SETTINGS = [deq.ReTune(1, 4), True, deq.Equilibrium(deq.Picard(max_iter=300))]


class Shrink(dinv.models.Denoiser):
    """Multiplies by a number, with an addition that a subclass defines."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.3, dtype=F64))

    def forward(self, x: Tensor, sigma: Any = None, **kwargs: Any) -> Tensor:
        return self.factor * x + self.addition(x)

    def addition(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class OfTorch(Shrink):
    def addition(self, x: Tensor) -> Tensor:
        return 0.1 * torch.rand_like(x)


class OfNumpy(Shrink):
    def addition(self, x: Tensor) -> Tensor:
        return 0.1 * np.random.rand() * x  # noqa: NPY002


class OfPython(Shrink):
    def addition(self, x: Tensor) -> Tensor:
        return 0.1 * random.random() * x


class OfGenerator(Shrink):
    def __init__(self) -> None:
        super().__init__()
        self.rng = torch.Generator().manual_seed(0)

    def addition(self, x: Tensor) -> Tensor:
        return 0.1 * torch.rand(x.shape, generator=self.rng, dtype=x.dtype)


class LeavesOut(Shrink):
    """Leaves out its addition in one of five evaluations, as stochastic depth does."""

    def addition(self, x: Tensor) -> Tensor:
        return 0.1 * x if torch.rand(()) < 0.8 else torch.zeros_like(x)


class DrawsInVain(Shrink):
    def addition(self, x: Tensor) -> Tensor:
        return 0 * torch.rand_like(x)


class Remembers(Shrink):
    """Moves from the last result towards the new one, and autograd sees that only."""

    last: Tensor | None = None

    def forward(self, x: Tensor, sigma: Any = None, **kwargs: Any) -> Tensor:
        start = torch.zeros_like(x) if self.last is None else self.last
        out = start + 0.5 * (self.factor * x - start)
        self.last = out.detach()
        return out


class Stores(Shrink):
    """Holds its last image, but does not use it."""

    def forward(self, x: Tensor, sigma: Any = None, **kwargs: Any) -> Tensor:
        self.last = x.detach()
        return self.factor * x


def pgd(prior: dinv.optim.Prior, DEQ: Any, **kwargs: Any) -> deq.optim.PGD:
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=prior,
        stepsize=0.5,
        sigma_denoiser=0.1,
        DEQ=DEQ,
        trainable_params=[],
        **kwargs,
        **({"max_iter": 20} if DEQ is True else {}),
    )


def measurement() -> Tensor:
    return torch.rand(2, 1, 8, 8, dtype=F64)


@in_one_test("DEQ", SETTINGS)
@in_one_test("denoiser", [OfTorch, OfNumpy, OfPython, OfGenerator, LeavesOut])
def test_call_warns_once_of_a_random_step(denoiser: Any, DEQ: Any) -> None:
    model, physics = pgd(dinv.optim.PnP(denoiser()), DEQ), dinv.physics.Denoising()
    y = measurement()
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        model(y, physics)
        model(y, physics)
    messages = [str(w.message) for w in caught if "is random" in str(w.message)]
    assert len(messages) == 1
    assert f"({denoiser.__name__})" in messages[0]
    assert "on_failure='ignore'" in messages[0]
    assert issubclass(caught[-1].category, deq.ConvergenceWarning)


def test_random_step_raises_or_is_ignored_as_on_failure_says() -> None:
    physics, y = dinv.physics.Denoising(), measurement()
    model = pgd(dinv.optim.PnP(OfTorch()), deq.ReTune(1, 3, on_failure="raise"))
    with pytest.raises(ValueError, match="is random"), torch.no_grad():
        model(y, physics)
    model = pgd(dinv.optim.PnP(OfTorch()), deq.ReTune(1, 3, on_failure="ignore"))
    with torch.no_grad():
        model(y, physics)


class DrawsFromAll(OfGenerator):
    def addition(self, x: Tensor) -> Tensor:
        self.draw()
        return torch.zeros_like(x)

    def draw(self) -> tuple[float, ...]:
        own = torch.rand((), generator=self.rng)
        numpy = np.random.rand()  # noqa: NPY002
        return float(own), float(torch.rand(())), numpy, random.random()


def test_check_of_a_step_leaves_the_random_numbers_of_the_caller_alone() -> None:
    physics, y, draws = dinv.physics.Denoising(), measurement(), []
    denoiser = DrawsFromAll()
    model = pgd(dinv.optim.PnP(denoiser), deq.ReTune(1, 3))
    for _ in range(2):  # with and without the check
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)
        denoiser.rng.manual_seed(1)
        model(y, physics)
        draws.append(denoiser.draw())
    assert draws[0] == draws[1]


@pytest.mark.filterwarnings("ignore:The fixed-point solve")
@pytest.mark.parametrize("DEQ", [deq.ReTune(1, 4), True])
@pytest.mark.parametrize(
    ("prior", "names"),
    [
        (lambda: dinv.optim.PnP(Remembers()), "Remembers.last"),
        (lambda: dinv.optim.TVPrior(1e-4, 200).double(), "TVDenoiser.x2, TVDenoiser.u"),
        (lambda: dinv.optim.TVPrior(0.0, 10).double(), "TVDenoiser.x2, TVDenoiser.u"),
    ],
)
def test_call_with_gradients_raises_for_a_step_with_a_memory(
    prior: Any, names: str, DEQ: Any
) -> None:
    y, physics = measurement(), dinv.physics.Denoising()
    model = pgd(prior(), DEQ, lambda_reg=0.05)
    with torch.no_grad():
        model(y, physics)  # without gradients the memory does no harm
    with pytest.raises(ValueError, match=names) as error:
        model(y.requires_grad_(), physics)
    assert "deepinv_equilibrium.optim.WeightedTVPrior" in str(error.value)


@pytest.mark.parametrize(
    "prior",
    [
        lambda: dinv.optim.PnP(Shrink()),
        lambda: dinv.optim.PnP(Stores()),
        lambda: deq.optim.WeightedTVPrior(),
    ],
)
def test_call_accepts_a_step_that_depends_on_its_state_only(prior: Any) -> None:
    y = measurement()[:, :, :4, :4]
    model = pgd(prior(), deq.ReTune(1, 2), lambda_reg=0.05)
    model(y.requires_grad_(), dinv.physics.Denoising()).sum().backward()
    assert y.grad is not None
