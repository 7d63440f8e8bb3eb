"""The descent with backtracking, for an energy whose steps are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.fixed_points import Status
from deepinv_equilibrium.optim.descent.backtracked_descent import (
    BacktrackedDescent,
)

from ...one_test import in_one_test

F64 = torch.float64
PHYSICS = dinv.physics.Denoising()


@dataclass
class Parabola:
    r"""The energy :math:`\frac{L}{2} (x - y)^2` with gradient steps and the divergence
    :math:`\|x^+ - x\|^2`."""

    y: Tensor
    curvature: Tensor

    def start(self) -> Tensor:
        return torch.ones_like(self.y)

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        gradient = self.curvature * (x - self.y)
        value = 0.5 * self.curvature * (x - self.y).square()
        return value.detach().flatten(1).sum(1), gradient

    def step(self, x: Tensor, gradient: Tensor, tau: Tensor) -> Tensor:
        return x - tau * gradient

    def divergence(self, trial: Tensor, x: Tensor) -> Tensor:
        return (trial - x).square().flatten(1).sum(1)

    def residual(self, trial: Tensor, x: Tensor, tau: Tensor) -> Tensor:
        return (trial - x).abs().flatten(1).sum(1) / tau


class ToParabola(BacktrackedDescent):
    spatial_axes = (0,)

    def __init__(self, curvature: Tensor, **changed: Any) -> None:
        arguments: dict[str, Any] = {
            "stepsize": 1.0,
            "gamma": 0.5,
            "eta": 0.5,
            "max_iter": 200,
            "rtol": 1e-12,
            "adjoint": deq.JacobianFree(),
            "on_failure": "warn",
        }
        super().__init__(**{**arguments, **changed})
        self.curvature = curvature

    def energy(self, y: Tensor, physics: dinv.physics.Physics) -> Parabola:
        return Parabola(y, self.curvature)


def test_each_sample_halves_its_step_size_until_the_decrease_is_sufficient() -> None:
    """F(x) - F(x+) = tau (1 - tau L / 2) |g|^2 >= gamma tau |g|^2 iff tau <= 1 / L."""
    curvature = torch.tensor([0.5, 1.5, 5.0], dtype=F64).reshape(3, 1)
    y = torch.tensor([[0.2], [3.0], [-1.0]], dtype=F64, requires_grad=True)
    model = ToParabola(curvature)
    x = model(y, PHYSICS)
    descent = model.solution
    assert descent is not None
    assert descent.stepsize.tolist() == [1.0, 0.5, 0.125]
    torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10)
    assert bool((descent.largest_increase == 0).all())
    count = descent.iterations
    rejected = torch.tensor([0, 1, 3])
    # The initial energy and the recorded step are evaluations as well.
    assert torch.equal(descent.evaluations, count + rejected + 2)
    # The energies tend to 0; the decrease of the last steps is below rounding.
    assert bool((descent.checked <= count).all())
    (gradient,) = torch.autograd.grad(x.sum(), y)
    expected = descent.stepsize.reshape(3, 1) * curvature
    torch.testing.assert_close(gradient, expected)


def test_absolute_residual_is_that_of_the_energy() -> None:
    model = ToParabola(torch.tensor([[5.0]], dtype=F64), max_iter=4, rtol=0.0)
    with torch.no_grad():
        model(torch.zeros(1, 1, dtype=F64), PHYSICS)
    descent = model.solution
    assert descent is not None
    assert descent.status == (Status.COMPLETED,)
    # Three trials are rejected; |x+ - x| / tau is the gradient, initially 5.
    assert descent.absolute_history.tolist() == [[5.0]]


def test_forward_returns_an_initial_minimiser() -> None:
    model = ToParabola(torch.ones(1, 1, dtype=F64), on_failure="ignore")
    y = torch.ones(1, 1, dtype=F64, requires_grad=True)
    x = model(y, PHYSICS)
    assert float(x.detach()) == 1.0
    assert model.solution is not None
    assert model.solution.status == (Status.CONVERGED,)


@in_one_test(
    ("name", "value"),
    [
        ("stepsize", 0.0),
        ("gamma", 1.0),
        ("eta", 0.0),
        ("rtol", 1.0),
        ("rtol", -0.1),
        ("max_iter", 0),
        ("on_failure", "stop"),
    ],
)
def test_constructor_refuses_numbers_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        ToParabola(torch.ones(1, 1), **{name: value})


def test_constructor_and_forward_refuse_other_types() -> None:
    with pytest.raises(TypeError, match="adjoint must be an Adjoint"):
        ToParabola(torch.ones(1, 1), adjoint=deq.GMRES())
    with pytest.raises(TypeError, match="gamma must be a number"):
        ToParabola(torch.ones(1, 1), gamma="half")
    with pytest.raises(TypeError, match="physics must be a deepinv Physics"):
        ToParabola(torch.ones(1, 1))(torch.zeros(1, 1), None)
