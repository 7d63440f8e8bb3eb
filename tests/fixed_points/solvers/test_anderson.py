from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deepinv_equilibrium.fixed_points import (
    GMRES,
    Anderson,
    LinearOperator,
    Picard,
    fixed_point,
)

from ...one_test import in_one_test

F64 = torch.float64


@given(st.integers(2, 8), st.floats(0.3, 0.95), st.integers(0, 2**20))
def test_anderson_converges_as_gmres_on_an_affine_step(
    n: int, rate: float, seed: int
) -> None:
    """Walker and Ni, theorem 2.2: the next iterate is f of the GMRES iterate."""
    torch.manual_seed(seed)
    matrix = torch.randn(n, n, dtype=F64)
    matrix = rate * matrix / torch.linalg.matrix_norm(matrix, 2)
    y = torch.randn(2, n, dtype=F64)
    x0 = torch.zeros_like(y)
    anderson = fixed_point(
        lambda x: x @ matrix.mT + y, x0, Anderson(history_size=n + 1, rtol=0, atol=1e-5)
    )
    operator = LinearOperator(lambda v: v - v @ matrix.mT, lambda v: v - v @ matrix)
    _, gmres = GMRES(rtol=0, atol=1e-5).run(operator, y)
    assert anderson.converged.all()
    excess = anderson.iterations - gmres.iterations
    assert bool((excess <= 2).all()), excess


def test_anderson_with_a_history_of_one_is_relaxed_picard() -> None:
    def step(x: Any) -> Tensor:
        return torch.cos(x) / 2

    seen: list[list[Tensor]] = [[], []]
    for solver, iterates in zip(
        (
            Anderson(history_size=1, beta=0.7, rtol=1e-8),
            Picard(relaxation=0.7, rtol=1e-8),
        ),
        seen,
        strict=True,
    ):
        fixed_point(
            step,
            torch.full((1, 3), 2.0, dtype=F64),
            solver,
            observer=lambda x, value, kept=iterates: kept.append(x.clone()),
        )
    torch.testing.assert_close(*seen, rtol=1e-12, atol=0)


def test_anderson_returns_the_iterate_of_smallest_residual() -> None:
    """The step is expansive, so that the residuals do not decrease monotonically."""
    torch.manual_seed(2)
    weight = torch.randn(10, 10, dtype=F64)
    solution = fixed_point(
        lambda x: torch.sin(2 * x @ weight),
        torch.ones(3, 10, dtype=F64),
        Anderson(max_iter=30, rtol=1e-12),
        on_failure="ignore",
    )
    least = solution.absolute_history.nan_to_num(torch.inf).min(dim=0).values
    assert torch.equal(solution.absolute_residual, least)


@in_one_test(
    ("name", "value"),
    [
        ("history_size", 0),
        ("history_size", 2.0),
        ("beta", 0.0),
        ("beta", 2.0),
        ("beta", -1.0),
        ("beta", float("nan")),
    ],
)
def test_argument_out_of_range_raises(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*{value!r}"):
        Anderson(**{name: value})
