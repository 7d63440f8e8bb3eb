"""All linear solvers, on batches of dense matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deepinv_equilibrium.fixed_points import (
    CGNE,
    GMRES,
    LinearOperator,
    LinearSolver,
    Report,
    Status,
)

from ...one_test import in_one_test
from ..exported_classes import LINEAR_SOLVER_TYPES

F64 = torch.float64


def dense(matrix: Tensor) -> LinearOperator:
    return LinearOperator(
        lambda v: (matrix @ v[..., None])[..., 0],
        lambda v: (matrix.mT @ v[..., None])[..., 0],
    )


def definite(batch: int, n: int, condition: float = 20.0) -> Tensor:
    """Return symmetric positive definite matrices."""
    basis = torch.linalg.qr(torch.randn(batch, n, n, dtype=F64)).Q
    spectrum = torch.logspace(0, float(torch.tensor(condition).log10()), n, dtype=F64)
    return basis @ torch.diag_embed(spectrum.expand(batch, n)) @ basis.mT


def check_report(report: Report, matrix: Tensor, v: Tensor, rhs: Tensor) -> None:
    """Compare the reported residual with the true one."""
    left = torch.linalg.vector_norm(rhs - dense(matrix).apply(v), dim=1).double()
    size = torch.linalg.vector_norm(rhs, dim=1).double()
    torch.testing.assert_close(
        report.residual, left / size, rtol=1e-3, atol=50 * torch.finfo(v.dtype).eps
    )


@given(st.integers(1, 8), st.integers(1, 3), st.integers(0, 2**20))
@pytest.mark.parametrize("solver_type", LINEAR_SOLVER_TYPES)
def test_run_agrees_with_a_dense_solve(
    solver_type: Any, n: int, batch: int, seed: int
) -> None:
    torch.manual_seed(seed)
    matrix, rhs = definite(batch, n), torch.randn(batch, n, dtype=F64)
    v, report = solver_type(rtol=1e-12).run(dense(matrix), rhs)
    assert report.converged.all()
    exact = torch.linalg.solve(matrix, rhs)
    torch.testing.assert_close(
        v, exact, rtol=1e-9, atol=1e-9 * float(exact.abs().max())
    )
    check_report(report, matrix, v, rhs)


@pytest.mark.parametrize("solver_type", LINEAR_SOLVER_TYPES)
def test_result_of_a_sample_does_not_depend_on_its_batch(solver_type: Any) -> None:
    easy = torch.eye(40, dtype=F64)[None] + 0.05 * definite(1, 40, 2.0)
    matrix = torch.cat([easy, definite(1, 40, 60.0)])
    rhs = torch.randn(2, 40, dtype=F64)
    solver = solver_type(rtol=1e-6, max_iter=2000)

    def separate(rows: Tensor) -> LinearOperator:
        """Multiply sample by sample, so that rounding does not depend on the batch."""
        return LinearOperator(
            lambda v: torch.stack([a @ x for a, x in zip(rows, v, strict=True)]),
            lambda v: torch.stack([a.mT @ x for a, x in zip(rows, v, strict=True)]),
        )

    together, report = solver.run(separate(matrix), rhs)
    assert report.iterations[0] < report.iterations[1]
    assert report.evaluations[0] < report.evaluations[1]
    for i in range(2):
        alone, single = solver.run(separate(matrix[i : i + 1]), rhs[i : i + 1])
        torch.testing.assert_close(together[i], alone[0], rtol=1e-12, atol=1e-12)
        assert single.iterations[0] == report.iterations[i]
        assert single.evaluations[0] == report.evaluations[i]
        count = int(single.iterations[0])
        assert report.history[:count, i].isfinite().all()
        assert report.history[count:, i].isnan().all()


@in_one_test("solver_type", LINEAR_SOLVER_TYPES)
def test_zero_right_side_costs_no_product(solver_type: Any) -> None:
    rhs = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=F64)
    matrix = definite(2, 2)
    v, report = solver_type().run(dense(matrix), rhs)
    assert torch.equal(v[0], rhs[0])
    assert report.status == (Status.CONVERGED,) * 2
    assert report.iterations[0] == report.evaluations[0] == 0
    assert report.residual[0] == 0

    v, report = solver_type().run(dense(matrix), torch.zeros_like(rhs))
    assert not v.any()
    assert report.history.shape == (0, 2)


@in_one_test("factor", [2.0**-20, 2.0**20])
@in_one_test("dtype", [torch.float32, F64])
@in_one_test("solver_type", LINEAR_SOLVER_TYPES)
def test_scaling_the_system_only_scales_the_solution(
    solver_type: Any, dtype: torch.dtype, factor: float
) -> None:
    matrix, rhs = definite(2, 10).to(dtype), torch.randn(2, 10, dtype=dtype)
    solver = solver_type(rtol=1e-5)
    v, report = solver.run(dense(matrix), rhs)
    assert v.dtype == dtype
    assert report.converged.all()
    scaled, other = solver.run(dense(matrix), factor * rhs)
    assert other.evaluations.tolist() == report.evaluations.tolist()
    torch.testing.assert_close(scaled / factor, v, rtol=1e-6, atol=1e-7)
    scaled, other = solver.run(dense(factor * matrix), rhs)
    assert other.evaluations.tolist() == report.evaluations.tolist()
    torch.testing.assert_close(scaled * factor, v, rtol=1e-6, atol=1e-7)


@in_one_test("solver_type", LINEAR_SOLVER_TYPES)
def test_fixed_budget_ends_as_completed(solver_type: Any) -> None:
    matrix, rhs = definite(1, 20), torch.randn(1, 20, dtype=F64)
    v, report = solver_type(max_iter=4, rtol=0).run(dense(matrix), rhs)
    assert report.status == (Status.COMPLETED,)
    assert report.iterations.tolist() == [4]
    check_report(report, matrix, v, rhs)


@in_one_test("solver_type", LINEAR_SOLVER_TYPES)
def test_exact_solution_before_the_budget_is_not_a_failure(solver_type: Any) -> None:
    """The system of the identity is solved in one iteration."""
    rhs = torch.tensor([[3.0, 4.0]], dtype=F64)
    matrix = torch.eye(2, dtype=F64)[None]
    v, report = solver_type(max_iter=10, rtol=0).run(dense(matrix), rhs)
    torch.testing.assert_close(v, rhs)
    assert report.failed_count == 0


@pytest.mark.parametrize("solver_type", LINEAR_SOLVER_TYPES)
def test_full_krylov_space_before_the_budget_is_not_a_failure(solver_type: Any) -> None:
    matrix, rhs = definite(3, 5), torch.randn(3, 5, dtype=F64)
    v, report = solver_type(max_iter=60, rtol=0).run(dense(matrix), rhs)
    torch.testing.assert_close(v, torch.linalg.solve(matrix, rhs))
    assert report.failed_count == 0


@in_one_test("solver_type", LINEAR_SOLVER_TYPES)
def test_spent_budget_ends_as_max_iter(solver_type: Any) -> None:
    matrix, rhs = definite(1, 30, 1e4), torch.randn(1, 30, dtype=F64)
    v, report = solver_type(max_iter=3, rtol=1e-8).run(dense(matrix), rhs)
    assert report.status == (Status.MAX_ITER,)
    check_report(report, matrix, v, rhs)


@in_one_test("where", ["operator", "right side"])
@in_one_test("solver_type", LINEAR_SOLVER_TYPES)
def test_nan_stays_in_its_sample(solver_type: Any, where: str) -> None:
    matrix, rhs = definite(2, 6), torch.randn(2, 6, dtype=F64)
    alone, single = solver_type().run(dense(matrix[:1]), rhs[:1])
    (matrix if where == "operator" else rhs)[1] = torch.nan
    v, report = solver_type().run(dense(matrix), rhs)
    assert report.status == (single.status[0], Status.NONFINITE)
    torch.testing.assert_close(v[0], alone[0], rtol=1e-12, atol=1e-12)
    assert v[1].isfinite().all()


@in_one_test("solver_type", LINEAR_SOLVER_TYPES)
def test_nan_after_three_products_returns_the_third_iterate(solver_type: Any) -> None:
    matrix, rhs = definite(1, 12, 100.0), torch.randn(1, 12, dtype=F64)
    good = dense(matrix)
    calls = iter(range(100))

    def breaks(v: Tensor) -> Tensor:
        return good.apply(v) * (torch.nan if next(calls) == 3 else 1.0)

    operator = LinearOperator(breaks, good.adjoint)
    v, report = solver_type(rtol=1e-10).run(operator, rhs)
    assert report.status == (Status.NONFINITE,)
    assert report.iterations.tolist() == [3]
    check_report(report, matrix, v, rhs)


@in_one_test("solver_type", LINEAR_SOLVER_TYPES)
def test_singular_system_without_a_solution_fails(solver_type: Any) -> None:
    matrix = torch.diag(torch.tensor([1.0, 2.0, 0.0], dtype=F64))[None]
    rhs = torch.ones(1, 3, dtype=F64)
    v, report = solver_type(rtol=1e-8).run(dense(matrix), rhs)
    assert report.failed_count == 1
    assert v.isfinite().all()
    assert float(report.residual) >= 3**-0.5 - 1e-9


@in_one_test("solver_type", LINEAR_SOLVER_TYPES)
def test_singular_system_with_a_solution_is_solved(solver_type: Any) -> None:
    matrix = torch.diag(torch.tensor([1.0, 2.0, 0.0], dtype=F64))[None]
    rhs = torch.tensor([[1.0, 1.0, 0.0]], dtype=F64)
    v, report = solver_type().run(dense(matrix), rhs)
    assert report.converged.all()
    torch.testing.assert_close(v, rhs / torch.tensor([1.0, 2.0, 1.0]))


@in_one_test("solver_type", LINEAR_SOLVER_TYPES)
def test_zero_operator_fails(solver_type: Any) -> None:
    v, report = solver_type().run(
        dense(torch.zeros(1, 3, 3, dtype=F64)), torch.ones(1, 3, dtype=F64)
    )
    assert report.failed_count == 1
    assert torch.equal(v, torch.zeros_like(v))
    assert report.residual.tolist() == [1.0]


def test_linear_solver_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        LinearSolver()


def test_absolute_tolerance_stops_a_sample(
    random_contraction: Callable[..., Tensor],
) -> None:
    matrix = torch.eye(10, dtype=F64)[None] - random_contraction(10, 0.8)
    rhs = torch.randn(1, 10, dtype=F64)
    for solver_type in (GMRES, CGNE):
        v, report = solver_type(rtol=0, atol=1e-3).run(dense(matrix), rhs)
        assert report.converged.all()
        assert report.absolute_residual <= 1e-3
        check_report(report, matrix, v, rhs)


@pytest.mark.parametrize("solver", LINEAR_SOLVER_TYPES)
def test_reported_residual_is_not_below_rounding(solver: Any) -> None:
    """In float32 the recursive estimate falls far below the true residual."""
    torch.manual_seed(9)
    root = torch.randn(60, 60)
    matrix = root @ root.mT / 60 + 0.1 * torch.eye(60)
    operator = LinearOperator(lambda v: v @ matrix, lambda v: v @ matrix)
    rhs = torch.randn(2, 60)
    _, report = solver(rtol=1e-9, max_iter=300).run(operator, rhs)
    assert not report.converged.any()
    assert (report.residual >= torch.finfo(torch.float32).eps).all()
