from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deepinv_equilibrium.fixed_points import CGNE, CGNR, LinearOperator, Status

F64 = torch.float64


def dense(matrix: Tensor) -> LinearOperator:
    return LinearOperator(
        lambda v: (matrix @ v[..., None])[..., 0],
        lambda v: (matrix.mT @ v[..., None])[..., 0],
    )


@given(st.integers(2, 7), st.integers(0, 2**20))
def test_iterates_of_cgnr_have_the_smallest_residual_of_their_krylov_space(
    n: int, seed: int
) -> None:
    torch.manual_seed(seed)
    matrix, rhs = torch.randn(2, n, n, dtype=F64), torch.randn(2, n, dtype=F64)
    operator = dense(matrix)
    direction, basis = operator.adjoint(rhs), []
    for k in range(1, min(n, 4)):
        basis.append(direction / direction.norm(dim=1, keepdim=True))
        direction = operator.adjoint(operator.apply(basis[-1]))
        v, report = CGNR(max_iter=k, rtol=0).run(operator, rhs)
        assert report.evaluations.tolist() == [2 * k] * 2
        space = torch.linalg.qr(torch.stack(basis, dim=-1)).Q
        images = torch.linalg.qr(matrix @ space).Q
        left = rhs[..., None] - images @ (images.mT @ rhs[..., None])
        least = left[..., 0].norm(dim=1)
        residual = (rhs - operator.apply(v)).norm(dim=1)
        assert bool((residual <= least + 1e-6 * rhs.norm(dim=1)).all())


def test_residual_of_cgnr_is_at_most_that_of_cgne_and_never_grows() -> None:
    torch.manual_seed(0)
    matrix, rhs = torch.randn(2, 9, 9, dtype=F64), torch.randn(2, 9, dtype=F64)
    histories = [
        solver(max_iter=9, rtol=0).run(dense(matrix), rhs)[1].history
        for solver in (CGNR, CGNE)
    ]
    assert bool((histories[0].diff(dim=0) <= 1e-12).all())
    assert bool((histories[0][:8] <= histories[1][:8] + 1e-12).all())
    assert bool((histories[1].diff(dim=0) > 0.1).any())


def test_cgnr_stops_at_the_least_squares_solution_of_a_singular_system() -> None:
    matrix = torch.tensor([[2.0, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=F64)[None]
    rhs = torch.tensor([[2.0, 3.0, 1.0]], dtype=F64)
    v, report = CGNR(rtol=1e-10).run(dense(matrix), rhs)
    assert report.status == (Status.DIVERGED,)
    torch.testing.assert_close(v, torch.tensor([[1.0, 3.0, 0.0]], dtype=F64))
    assert abs(float(report.absolute_residual) - 1) < 1e-12


def test_cgnr_uses_the_given_adjoint() -> None:
    """With a wrong adjoint it does not converge."""
    matrix = torch.tensor([[1.0, 0.9], [0.0, 1.0]], dtype=F64)
    rhs = torch.tensor([[0.0, 1.0]], dtype=F64)
    wrong = LinearOperator(lambda v: v @ matrix.mT, lambda v: v @ matrix.mT)
    assert CGNR(rtol=1e-10).run(dense(matrix[None]), rhs)[1].converged.all()
    assert not CGNR(rtol=1e-10, max_iter=2).run(wrong, rhs)[1].converged.any()
