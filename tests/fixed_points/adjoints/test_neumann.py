from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.fixed_points import (
    ConvergenceWarning,
    Neumann,
    Status,
    fixed_point,
)


@pytest.mark.parametrize("order", [0, 1, 4])
def test_gradient_is_the_partial_sum_and_the_residual_its_last_term(
    order: int, random_contraction: Callable[..., Tensor]
) -> None:
    weight = random_contraction(5, 0.9)
    y = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    c = torch.randn(2, 5, dtype=torch.float64)
    solution = fixed_point(
        lambda x: x @ weight.mT + y, torch.zeros_like(c), adjoint=Neumann(order=order)
    )
    (gradient,) = torch.autograd.grad((solution.x * c).sum(), y)
    term, expected = c, c
    for _ in range(order):
        term = term @ weight
        expected = expected + term
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)
    report = solution.backward
    if order == 0:
        assert report is None
        return
    assert report is not None
    assert report.status == (Status.COMPLETED,) * 2
    assert report.evaluations.tolist() == [order] * 2
    torch.testing.assert_close(
        report.absolute_residual, torch.linalg.vector_norm(term, dim=1)
    )


def test_error_is_below_the_bound_of_the_truncated_series(
    random_contraction: Callable[..., Tensor],
) -> None:
    weight, rate = random_contraction(5, 0.8), 0.8
    system = torch.eye(5, dtype=torch.float64) - weight
    exact = torch.linalg.solve(system.mT, torch.ones(5, 1, dtype=torch.float64))[:, 0]
    for order in (1, 5, 20):
        y = torch.randn(1, 5, dtype=torch.float64, requires_grad=True)
        x = fixed_point(
            lambda x, y=y: x @ weight.mT + y,
            torch.zeros_like(y),
            adjoint=Neumann(order=order),
        ).x
        (gradient,) = torch.autograd.grad(x.sum(), y)
        error = torch.linalg.vector_norm(gradient[0] - exact)
        assert error <= rate ** (order + 1) / (1 - rate) * 5**0.5


@pytest.mark.parametrize("order", [-1, 2.0, False])
def test_order_out_of_range_raises(order: Any) -> None:
    with pytest.raises(ValueError, match=f"order must be an integer >= 0.*{order!r}"):
        Neumann(order=order)


def test_series_of_an_expansive_step_warns_as_diverged() -> None:
    y = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    x = fixed_point(
        lambda x: 2 * x + y, torch.zeros_like(y), adjoint=Neumann(order=6)
    ).x
    with pytest.warns(ConvergenceWarning, match="solve of Neumann.*\nDIVERGED"):
        x.sum().backward()
