from __future__ import annotations

from typing import Any

import pytest
import torch

from deepinv_equilibrium.fixed_points import (
    Broyden,
    JacobianFree,
    Neumann,
    Picard,
    fixed_point,
)

from ...one_test import in_one_test

TIGHT = Broyden(rtol=1e-14, max_iter=100)


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_gradient_at_the_fixed_point_is_the_neumann_sum(
    problem: Any, steps: int
) -> None:
    grads = []
    for adjoint in (JacobianFree(steps=steps), Neumann(order=steps - 1)):
        step = problem.step(*problem.parameters)
        x0 = fixed_point(step, problem.x0, TIGHT, on_failure="ignore").detach().x
        x = fixed_point(step, x0, Picard(rtol=1e-10), adjoint).x
        parts = x if isinstance(x, tuple) else (x,)
        loss = sum(part.abs().square().sum() for part in parts)
        grads.append(torch.autograd.grad(loss, problem.parameters))
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_gradient_through_an_output_is_the_neumann_sum(
    output_problem: Any, steps: int
) -> None:
    grads = []
    step = output_problem.step(*output_problem.parameters)
    x0 = fixed_point(step, output_problem.x0, TIGHT, on_failure="ignore").detach().x
    for adjoint in (JacobianFree(steps=steps), Neumann(order=steps - 1)):
        solution = fixed_point(step, x0, Picard(rtol=1e-10), adjoint)
        loss = solution.x.square().sum() + solution.output.square().sum()
        grads.append(torch.autograd.grad(loss, output_problem.parameters))
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)


def test_backward_report_is_none(problem: Any) -> None:
    step = problem.step(*problem.parameters)
    solution = fixed_point(step, problem.x0, adjoint=JacobianFree(steps=2))
    x = solution.x if isinstance(solution.x, torch.Tensor) else solution.x[0]
    x.sum().backward()
    assert solution.backward is None


@in_one_test("steps", [0, -1, 1.0, True, "2"])
def test_steps_out_of_range_raises(steps: Any) -> None:
    with pytest.raises(ValueError, match=f"steps must be an integer >= 1.*{steps!r}"):
        JacobianFree(steps=steps)
