from __future__ import annotations

import pytest
import torch

from deepinv_equilibrium.fixed_points import CG, LinearOperator, Status

F64 = torch.float64


@pytest.mark.parametrize("condition", [2.0, 50.0])
def test_error_is_below_the_chebyshev_bound(condition: float) -> None:
    spectrum = torch.linspace(1, condition, 30, dtype=F64)
    operator = LinearOperator(lambda v: spectrum * v, lambda v: spectrum * v)
    rhs = torch.randn(1, 30, dtype=F64)
    exact = rhs / spectrum
    ratio = (condition**0.5 - 1) / (condition**0.5 + 1)

    def energy(error: torch.Tensor) -> float:
        return float((spectrum * error.square()).sum().sqrt())

    for k in (1, 3, 6, 12):
        v, report = CG(max_iter=k, rtol=0).run(operator, rhs)
        assert report.evaluations.tolist() == [k]
        assert energy(v - exact) <= 2 * ratio**k * energy(exact)


def test_negative_curvature_stops_its_sample_only() -> None:
    diagonal = torch.tensor([[1.0, 2.0, 3.0], [1.0, -5.0, 1.0]], dtype=F64)
    operator = LinearOperator(lambda v: diagonal * v, lambda v: diagonal * v)
    rhs = torch.ones(2, 3, dtype=F64)
    v, report = CG(rtol=1e-10).run(operator, rhs)
    assert report.status == (Status.CONVERGED, Status.DIVERGED)
    torch.testing.assert_close(v[0], rhs[0] / diagonal[0])
    assert v[1].isfinite().all()


def test_residual_of_tiny_float32_numbers_does_not_underflow() -> None:
    spectrum = torch.linspace(1, 100, 200)
    operator = LinearOperator(lambda v: spectrum * v, lambda v: spectrum * v)
    rhs = 1e-20 * torch.randn(1, 200)  # its square underflows in float32
    v, report = CG(rtol=1e-5, max_iter=200).run(operator, rhs)
    assert report.converged.all()
    torch.testing.assert_close(v / 1e-20, rhs / spectrum / 1e-20, rtol=1e-3, atol=1e-5)


def test_singular_system_without_a_solution_returns_a_bounded_iterate() -> None:
    diagonal = torch.tensor([[4.0, 2.0, 1.0, 0.0]], dtype=F64)
    basis = torch.linalg.qr(torch.randn(4, 4, dtype=F64)).Q
    matrix = basis @ torch.diag(diagonal[0]) @ basis.T
    operator = LinearOperator(lambda v: v @ matrix, lambda v: v @ matrix)
    rhs = torch.randn(1, 4, dtype=F64)
    v, report = CG(rtol=1e-12).run(operator, rhs)
    assert report.status == (Status.DIVERGED,)
    assert v.norm() < 10 * (rhs @ torch.linalg.pinv(matrix)).norm()
    assert (rhs - v @ matrix).norm() <= rhs.norm()
