from __future__ import annotations

import torch

from deepinv_equilibrium.fixed_points import CGNE, LinearOperator

F64 = torch.float64


def test_error_of_cgne_never_grows_and_an_iteration_costs_two_products() -> None:
    """For an indefinite, nonsymmetric operator."""
    matrix = torch.randn(2, 8, 8, dtype=F64)
    operator = LinearOperator(
        lambda v: (matrix @ v[..., None])[..., 0],
        lambda v: (matrix.mT @ v[..., None])[..., 0],
    )
    exact = torch.randn(2, 8, dtype=F64)
    rhs = operator.apply(exact)
    errors = [torch.linalg.vector_norm(exact, dim=1)]
    for k in range(1, 9):
        v, report = CGNE(max_iter=k, rtol=0).run(operator, rhs)
        assert report.evaluations.tolist() == [2 * k] * 2
        errors.append(torch.linalg.vector_norm(v - exact, dim=1))
    history = torch.stack(errors)
    assert bool((history.diff(dim=0) <= 1e-10).all())
    v, report = CGNE(rtol=1e-10, max_iter=200).run(operator, rhs)
    assert report.converged.all()
    torch.testing.assert_close(v, exact, rtol=1e-6, atol=1e-6)


def test_cgne_uses_the_given_adjoint() -> None:
    """With a wrong adjoint it does not converge."""
    matrix = torch.tensor([[1.0, 0.9], [0.0, 1.0]], dtype=F64)
    rhs = torch.tensor([[0.0, 1.0]], dtype=F64)
    right = LinearOperator(lambda v: v @ matrix.mT, lambda v: v @ matrix)
    wrong = LinearOperator(lambda v: v @ matrix.mT, lambda v: v @ matrix.mT)
    assert CGNE(rtol=1e-10).run(right, rhs)[1].converged.all()
    assert not CGNE(rtol=1e-10, max_iter=2).run(wrong, rhs)[1].converged.any()


def test_a_tolerance_below_rounding_ends_at_rounding() -> None:
    torch.manual_seed(0)
    matrix = torch.eye(20) + 0.2 * torch.randn(20, 20)
    b = torch.randn(1, 20)
    operator = LinearOperator(lambda v: v @ matrix.T, lambda v: v @ matrix)
    v, report = CGNE(rtol=1e-12, max_iter=2000).run(operator, b)
    assert report.status[0].failed
    assert torch.isfinite(v).all()
    expected = torch.linalg.solve(matrix.double(), b[0].double())
    torch.testing.assert_close(v[0].double(), expected, rtol=1e-2, atol=1e-3)
