from __future__ import annotations

from dataclasses import dataclass

import deepinv as dinv
import torch
from torch import Tensor

from deepinv_equilibrium.equilibrium.measured_physics import MeasuredPhysics
from deepinv_equilibrium.fixed_points import (
    HasDomain,
    JacobianFree,
    Picard,
    State,
    Status,
    fixed_point,
)
from deepinv_equilibrium.optim.descent.energy import EnergyStep


@dataclass
class Quadratic:
    r"""The energy :math:`\frac{1}{2} \|x - A^\top y\|^2` with gradient steps."""

    physics: dinv.physics.LinearPhysics
    y: Tensor

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        gradient = x - self.physics.A_adjoint(self.y)
        return gradient.detach().double().square().flatten(1).sum(1) / 2, gradient

    def step(self, x: Tensor, gradient: Tensor, tau: Tensor) -> Tensor:
        return x - tau * gradient


class Positive(Quadratic):
    def domain(self, state: State) -> Tensor:
        assert isinstance(state, Tensor)
        return (state > 0).flatten(1).all(dim=1)


def problem(kind: type[Quadratic], y: Tensor) -> tuple[Quadratic, MeasuredPhysics]:
    measured = MeasuredPhysics(dinv.physics.Denoising(), y)
    return kind(measured.physics, y), measured


def test_energy_step_records_a_new_graph_in_every_call() -> None:
    """The physics caches A^T y, which belongs to one graph only."""
    y = torch.rand(2, 1, 2, 2, requires_grad=True)
    energy, measured = problem(Quadratic, y)
    tau = torch.tensor([0.25, 0.5]).reshape(2, 1, 1, 1)
    step = EnergyStep(energy, tau, measured)
    assert not isinstance(step, HasDomain)
    for _ in range(2):
        x = step(torch.zeros_like(y))
        assert isinstance(x, Tensor)
        (gradient,) = torch.autograd.grad(x.sum(), y)
        torch.testing.assert_close(gradient, tau.expand_as(y))


def test_energy_step_has_the_domain_of_the_energy() -> None:
    y = torch.tensor([[1.0, 1.0], [1.0, -1.0]]).reshape(2, 1, 1, 2)
    energy, measured = problem(Positive, y)
    step = EnergyStep(energy, torch.full((2, 1, 1, 1), 0.9), measured)
    assert isinstance(step, HasDomain)
    x0 = torch.ones_like(y)
    solver = Picard(max_iter=50, rtol=1e-3)
    found = fixed_point(step, x0, solver, JacobianFree(), on_failure="ignore")
    assert found.status == (Status.CONVERGED, Status.DIVERGED)
