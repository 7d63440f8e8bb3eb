from __future__ import annotations

import random
from collections.abc import Callable

import deepinv as dinv
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import (
    Bound,
    Contraction,
    UncertifiableModuleError,
)

from ..one_test import in_one_test


class Declared(nn.Module):
    """A function with a declared Lipschitz constant."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function
        self.calls = 0
        self.generator = torch.Generator()
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.function(self, x)

    def lipschitz_bound(self, img_size: tuple[int, ...] | None) -> Bound:
        return Bound(1.0, source="declared")


def stochastic_depth(module: Declared, x: Tensor) -> Tensor:
    # Both calls agree in nearly all trials.
    return x if torch.rand(()) < 1e-9 else x / 2


def running_mean(module: Declared, x: Tensor) -> Tensor:
    module.mean += 0.1 * x.mean()
    return x - module.mean


numpy_random = np.random.mtrand._rand  # the generator of numpy.random.rand
RANDOM = {
    "torch": stochastic_depth,
    "python": lambda module, x: x if random.random() < 1e-9 else x / 2,
    "numpy": lambda module, x: x if numpy_random.rand() < 1e-9 else x / 2,
    "own": lambda module, x: (
        x if torch.rand((), generator=module.generator) < 1e-9 else x / 2
    ),
    "dropout": lambda module, x: nn.functional.dropout(x, 0.01),
    "rrelu": lambda module, x: nn.functional.rrelu(x, 0.1, 0.2, training=True),
}


@in_one_test("name", RANDOM)
def test_lipschitz_refuses_a_declared_module_that_draws_random_numbers(
    name: str,
) -> None:
    module = nn.Sequential(Declared(RANDOM[name]))
    with pytest.raises(UncertifiableModuleError, match="draws random numbers"):
        deq.lipschitz(module, (1, 4, 4))


@in_one_test(
    ("function", "match"),
    [
        (lambda module, x: x - x.mean(0), "other images of its batch"),
        (lambda module, x: x.flatten(0), "other images of its batch"),
        (lambda module, x: x / module.calls, "two calls with one input differ"),
        (running_mean, "two calls with one input differ"),
    ],
)
def test_lipschitz_refuses_a_declared_module_that_is_no_function_of_each_image(
    function: Callable[..., Tensor], match: str
) -> None:
    with pytest.raises(UncertifiableModuleError, match=match):
        deq.lipschitz(Declared(function), (1, 4, 4))


def test_lipschitz_restores_generators_and_buffers() -> None:
    def draw(module: Declared, x: Tensor) -> Tensor:
        torch.rand(1), random.random(), numpy_random.rand()
        torch.rand(1, generator=module.generator)
        return running_mean(module, x)

    def states() -> list[object]:
        generators = (torch.default_generator, module.generator)
        own = [generator.get_state().tolist() for generator in generators]
        return [*own, random.getstate(), numpy_random.get_state()[1].tolist()]

    module = Declared(draw)
    before = states()
    with pytest.raises(UncertifiableModuleError):
        deq.lipschitz(module, (1, 4, 4))
    assert states() == before
    assert module.mean == 0


def test_lipschitz_of_a_module_that_cannot_be_called_is_that_of_its_rule() -> None:
    assert deq.lipschitz(Declared(lambda module, x: x[None, 7]), (1, 4)).value == 1


@pytest.mark.parametrize("only", [None, (40, 48)])
def test_lipschitz_calls_the_module_with_small_images_if_it_takes_them(
    only: tuple[int, int] | None,
) -> None:
    sizes = []

    def called(module: Declared, x: Tensor) -> Tensor:
        sizes.append(tuple(x.shape[2:]))
        if only is not None and x.shape[2:] != only:
            raise ValueError("another size")
        return x

    assert deq.lipschitz(Declared(called), (1, 40, 48)).value == 1
    assert sizes[-1] == (only or (32, 32))


class InPlace(dinv.models.Denoiser):
    def forward(self, x: Tensor, sigma: float, **kwargs: object) -> Tensor:
        return x.mul_(0.5)

    def lipschitz_bound(self, img_size: tuple[int, ...] | None) -> Bound:
        return Bound(0.5, source="declared")


def test_lipschitz_refuses_a_denoiser_that_overwrites_its_image() -> None:
    with pytest.raises(UncertifiableModuleError, match="inplace=False"):
        deq.lipschitz(InPlace(), (1, 4, 4))
    # A layer may overwrite its input: no later layer reads the input again.
    assert deq.lipschitz(nn.ReLU(inplace=True), (1, 4, 4)).value == 1


class Model(nn.Module):
    """A model with a declared rate whose step is a function of the state and y."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def fixed_point_problem(self, y: Tensor, physics: dinv.physics.Physics) -> object:
        return (lambda x: self.function(x, y)), torch.zeros_like(y)

    def contraction(self, physics: object, img_size: object) -> Contraction:
        return Contraction(Bound(0.5, source="declared"), "l2 norm")


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda x, y: 0.5 * nn.functional.dropout(x + y), "random numbers"),
        (lambda x, y: 0.5 * x + y.mean(0), "other images of its batch"),
        (lambda x, y: x.mul_(0.5).add_(y), "overwrites its state"),
    ],
)
def test_certify_gives_no_rate_to_a_step_that_is_no_function_of_each_sample(
    function: Callable[[Tensor, Tensor], Tensor], match: str
) -> None:
    physics = dinv.physics.Denoising()
    certificate = deq.certify(Model(function), physics, (1, 4, 4))
    assert not certificate.contracts
    assert match in certificate.rate.source
    right = deq.certify(Model(lambda x, y: 0.5 * x + y), physics, (1, 4, 4))
    assert right.rate.value == 0.5


class Firm(dinv.models.Denoiser):
    """A denoiser that declares to be firmly nonexpansive, and is random."""

    is_firmly_nonexpansive = True

    def forward(self, x: Tensor, sigma: float, **kwargs: object) -> Tensor:
        return x * torch.rand(())


@pytest.mark.parametrize("denoiser", [InPlace(), Firm()])
def test_certify_gives_no_rate_to_a_denoiser_that_trial_calls_refuse(
    denoiser: dinv.models.Denoiser,
) -> None:
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        stepsize=0.5,
        trainable_params=[],
        DEQ=deq.Equilibrium(),
    )
    certificate = deq.certify(model, dinv.physics.Denoising(), (1, 4, 4))
    assert certificate.rate.is_vacuous
    assert "overwrites" in certificate.rate.source or "random" in str(certificate.rate)
