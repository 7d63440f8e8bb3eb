from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deepinv_equilibrium.fixed_points import GMRES, LinearOperator

from ...one_test import in_one_test

F64 = torch.float64


def system(jacobian: Tensor) -> LinearOperator:
    matrix = torch.eye(jacobian.shape[-1], dtype=jacobian.dtype) - jacobian.mT
    return LinearOperator(
        lambda v: (matrix @ v[..., None])[..., 0],
        lambda v: (matrix.mT @ v[..., None])[..., 0],
    )


@given(st.integers(2, 8), st.floats(0.1, 0.95), st.integers(0, 2**20))
def test_residual_is_below_the_bound_of_the_neumann_series(
    n: int, rate: float, seed: int
) -> None:
    torch.manual_seed(seed)
    jacobian = torch.randn(2, n, n, dtype=F64)
    jacobian *= rate / torch.linalg.matrix_norm(jacobian, 2)[:, None, None]
    _, report = GMRES(rtol=1e-10).run(system(jacobian), torch.randn(2, n, dtype=F64))
    for i, count in enumerate(report.iterations.tolist()):
        bound = rate ** torch.arange(1, count + 1)
        assert bool((report.history[:count, i] <= bound + 1e-12).all())
        assert bool((report.history[:count, i].diff() <= 1e-12).all())
        assert count <= n


def test_restarted_gmres_converges_with_a_small_space() -> None:
    """A scaled cyclic shift, for which small Krylov spaces converge slowly."""
    n = 24
    jacobian = 0.9 * torch.roll(torch.eye(n, dtype=F64), 1, 0)[None]
    rhs = torch.randn(1, n, dtype=F64)
    full, report = GMRES(rtol=1e-10).run(system(jacobian), rhs)
    assert report.converged.all()
    solver = GMRES(restart=5, rtol=1e-10, max_iter=1000)
    short, other = solver.run(system(jacobian), rhs)
    assert other.converged.all()
    assert other.iterations[0] > report.iterations[0]
    torch.testing.assert_close(short, full, rtol=1e-8, atol=1e-8)
    # One product per iteration, and one more at each restart.
    iterations = int(other.iterations[0])
    assert int(other.evaluations[0]) == iterations + (iterations - 1) // 5


def test_gmres_of_restart_one_solves_a_diagonal_system() -> None:
    jacobian = 0.5 * torch.eye(4, dtype=F64)[None] * torch.linspace(0, 1, 4)
    rhs = torch.ones(1, 4, dtype=F64)
    v, report = GMRES(restart=1, rtol=1e-9).run(system(jacobian), rhs)
    exact = 1 / (1 - 0.5 * torch.linspace(0, 1, 4, dtype=F64))
    assert report.converged.all()
    torch.testing.assert_close(v[0], exact, rtol=1e-7, atol=0)


def test_restart_beyond_the_size_costs_no_extra_products() -> None:
    jacobian = 0.3 * torch.randn(3, 2, 2, dtype=F64)
    _, report = GMRES(restart=500, rtol=1e-12).run(
        system(jacobian), torch.randn(3, 2, dtype=F64)
    )
    assert report.evaluations.tolist() == [2, 2, 2]


def test_float32_agrees_with_float64_on_a_slow_problem() -> None:
    torch.manual_seed(3)
    jacobian = torch.randn(2, 60, 60, dtype=F64)
    jacobian *= 0.93 / torch.linalg.matrix_norm(jacobian, 2)[:, None, None]
    rhs = torch.randn(2, 60, dtype=F64)
    exact, _ = GMRES(rtol=1e-13, restart=60).run(system(jacobian), rhs)
    v, report = GMRES(rtol=1e-5).run(system(jacobian.float()), rhs.float())
    assert report.converged.all()
    error = torch.linalg.vector_norm(v - exact, dim=1)
    assert bool((error <= 2e-4 * torch.linalg.vector_norm(exact, dim=1)).all())


@in_one_test("restart", [0, -1, 2.5, None])
def test_restart_out_of_range_raises(restart: Any) -> None:
    with pytest.raises(ValueError, match=f"restart must be an integer >= 1.*{restart}"):
        GMRES(restart=restart)
