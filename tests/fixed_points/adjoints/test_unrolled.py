from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.fixed_points import (
    Anderson,
    Broyden,
    Picard,
    Unrolled,
    fixed_point,
)

F64 = torch.float64


def test_gradient_equals_a_hand_written_loop_and_reaches_x0(problem: Any) -> None:
    state = problem.x0 if isinstance(problem.x0, tuple) else (problem.x0,)
    x0 = tuple(part.clone().requires_grad_() for part in state)
    inputs = (*problem.parameters, *x0)
    step = problem.step(*problem.parameters)
    start = x0 if isinstance(problem.x0, tuple) else x0[0]

    def gradients(x: Any) -> tuple[Tensor, ...]:
        parts = x if isinstance(x, tuple) else (x,)
        return torch.autograd.grad(sum(p.abs().square().sum() for p in parts), inputs)

    solution = fixed_point(step, start, Picard(max_iter=4, rtol=0), Unrolled())
    x = start
    for _ in range(4):
        x = step(x)
    torch.testing.assert_close(gradients(solution.x), gradients(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("relaxation", [1.0, 0.6])
@pytest.mark.parametrize("problem", ["linear", "convolution"], indirect=True)
def test_second_derivatives_equal_finite_differences(
    problem: Any, relaxation: float
) -> None:
    solver = Picard(max_iter=3, rtol=0, relaxation=relaxation)

    def solved(*parameters: Tensor) -> Any:
        return fixed_point(problem.step(*parameters), problem.x0, solver, Unrolled()).x

    assert torch.autograd.gradgradcheck(solved, problem.parameters, fast_mode=True)


def test_gradient_of_a_sample_does_not_depend_on_its_batch(
    random_contraction: Callable[..., Tensor],
) -> None:
    weight = torch.stack([random_contraction(3, 0.2), random_contraction(3, 0.9)])
    y = torch.randn(2, 3, 1, dtype=F64)

    def gradient(rows: slice) -> tuple[Tensor, Tensor]:
        data = y[rows].clone().requires_grad_()
        solution = fixed_point(
            lambda x: torch.tanh(weight[rows] @ x) + data,
            torch.zeros_like(data),
            Picard(max_iter=300),
            Unrolled(),
        )
        grads = torch.autograd.grad(solution.x.square().sum(), data)
        return grads[0], solution.iterations

    together, iterations = gradient(slice(0, 2))
    assert iterations[0] < iterations[1]
    for i in range(2):
        alone, count = gradient(slice(i, i + 1))
        torch.testing.assert_close(together[i], alone[0], rtol=1e-12, atol=1e-12)
        assert count[0] == iterations[i]


def test_second_derivative_raises_if_a_sample_is_nonfinite() -> None:
    theta = torch.tensor(0.5, dtype=F64, requires_grad=True)
    y = torch.tensor([[1.0], [torch.nan]], dtype=F64)
    solution = fixed_point(
        lambda x: torch.sin(theta * x) + y,
        torch.zeros_like(y),
        Picard(),
        Unrolled(),
        on_failure="ignore",
    )
    (gradient,) = torch.autograd.grad(solution.x.sum(), theta, create_graph=True)
    assert gradient.isfinite()
    with pytest.raises(NotImplementedError, match="sample turned non-finite"):
        torch.autograd.grad(gradient, theta)


@pytest.mark.parametrize("solver", [Anderson(), Broyden()], ids=str)
def test_accelerated_solver_raises(solver: Any) -> None:
    with pytest.raises(ValueError, match=f"Unrolled .* {type(solver).__name__}"):
        fixed_point(lambda x: x / 2, torch.ones(1, 1), solver, Unrolled())
