from __future__ import annotations

import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import SquaredError
from deepinv_equilibrium.certificates.gradients.fixed_point_vicinity import (
    FixedPointVicinity,
)
from deepinv_equilibrium.certificates.gradients.step_jacobians import StepJacobians

from ..known_equilibria import KnownModel


def test_error_bounds_the_gradients_of_retune() -> None:
    for seed in range(12):
        model = KnownModel(seed, deq.Equilibrium(), affine=seed % 2 == 0)
        loss = SquaredError(model.target)
        step, x0 = model.fixed_point_problem(model.y)
        around = FixedPointVicinity(
            StepJacobians(step, [model.theta]), model.rate, x0, loss, model.constants
        )
        assert all(term.is_certified for term in around.terms)
        exact = model.exact_gradient(loss)
        assert exact.norm() <= around.scale * (1 + 1e-9)
        # Not in increasing order, and beyond the convergence of the iterates.
        for layers, restarts in ((3, 2), (1, 1), (40, 30), (2, 5), (8, 1)):
            model.DEQ = deq.ReTune(layers, restarts)
            block, _ = model.fixed_point_problem(model.y)
            config = model.DEQ
            x = deq.fixed_point(block, x0, config.solver, config.adjoint).x
            (gradient,) = torch.autograd.grad(loss(x), model.theta)
            error = float((gradient - exact).norm())
            model.DEQ = deq.Equilibrium()
            assert error <= around.error(layers, restarts)


def test_error_decreases_to_rounding() -> None:
    model = KnownModel(0, deq.Equilibrium())
    step, x0 = model.fixed_point_problem(model.y)
    around = FixedPointVicinity(
        StepJacobians(step, [model.theta]),
        model.rate,
        x0,
        SquaredError(model.target),
        model.constants,
    )
    assert around.error(50, 5) < 1e-6 * around.scale < around.error(1, 1)
