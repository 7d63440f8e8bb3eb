from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.fixed_points import (
    SHINE,
    Anderson,
    Broyden,
    Implicit,
    JacobianFree,
    Picard,
    Solution,
    fixed_point,
)
from deepinv_equilibrium.fixed_points.solution import LowRankInverse
from deepinv_equilibrium.fixed_points.solvers.broyden import BroydenIteration

F64 = torch.float64


@pytest.fixture
def affine(random_contraction: Callable[..., Tensor]) -> Any:
    weight = random_contraction(6, 0.8)
    y = torch.randn(3, 6, dtype=F64, requires_grad=True)
    c = torch.randn(3, 6, dtype=F64)

    def run(adjoint: Any) -> tuple[Solution, Tensor]:
        solution = fixed_point(
            lambda x: x @ weight.mT + y,
            torch.zeros(3, 6, dtype=F64),
            Broyden(),
            adjoint,
        )
        (gradient,) = torch.autograd.grad((solution.x * c).sum(), y)
        return solution, gradient

    return weight, c, run


def test_gradient_is_the_estimate_applied_to_the_cotangent(affine: Any) -> None:
    weight, c, run = affine
    solution, v = run(SHINE())
    torch.testing.assert_close(v, solution.inverse_jacobian.adjoint(c))
    left = torch.linalg.vector_norm(c - v + v @ weight, dim=1)
    report = solution.backward
    torch.testing.assert_close(report.absolute_residual, left)
    torch.testing.assert_close(
        report.residual, left / torch.linalg.vector_norm(c, dim=1)
    )
    assert report.failed_count == 0
    assert report.evaluations.tolist() == [1] * 3


def test_refinement_reaches_the_exact_gradient(affine: Any) -> None:
    weight, c, run = affine
    exact = torch.linalg.solve((torch.eye(6, dtype=F64) - weight).mT, c.mT).mT
    last = torch.full((3,), torch.inf, dtype=F64)
    for refine in (0, 1, 3, 6):
        solution, v = run(SHINE(refine=refine))
        left = torch.linalg.vector_norm(c - v + v @ weight, dim=1)
        torch.testing.assert_close(
            solution.backward.absolute_residual, left, rtol=1e-6, atol=1e-12
        )
        assert bool((left <= last * (1 + 1e-9)).all())
        assert solution.backward.evaluations.tolist() == [1 + refine] * 3
        last = left
    torch.testing.assert_close(v, exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("factor", [100.0, torch.nan])
def test_a_bad_estimate_falls_back_to_jacobian_free(
    affine: Any, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other samples keep their gradients."""
    _, _, run = affine
    _, clean = run(SHINE())
    _, free = run(JacobianFree())
    original = BroydenIteration.inverse_jacobian

    def spoilt(self: BroydenIteration) -> LowRankInverse:
        inverse = original(self)
        assert inverse is not None
        u = inverse.u.clone()
        u[1] *= factor
        return LowRankInverse(u, inverse.v)

    monkeypatch.setattr(BroydenIteration, "inverse_jacobian", spoilt)
    solution, v = run(SHINE())
    torch.testing.assert_close(v[1], free[1])
    torch.testing.assert_close(v[[0, 2]], clean[[0, 2]])
    # The residual of the fall-back costs a second product.
    assert solution.backward.evaluations.tolist() == [1, 2, 1]
    assert solution.backward.residual.isfinite().all()


def test_shine_is_exact_in_one_dimension() -> None:
    """The secant of Broyden's method is then the derivative."""
    y = torch.tensor([[1.0]], dtype=F64, requires_grad=True)
    grads = []
    for adjoint in (SHINE(), Implicit(), JacobianFree()):
        x = fixed_point(
            lambda x: 0.8 * x + y, torch.zeros(1, 1, dtype=F64), Broyden(), adjoint
        ).x
        grads.append(float(torch.autograd.grad(x.sum(), y)[0]))
    assert grads == pytest.approx([5.0, 5.0, 1.0])


@pytest.mark.parametrize("solver", [Picard(), Anderson()], ids=str)
def test_solver_without_an_inverse_jacobian_raises(solver: Any) -> None:
    with pytest.raises(ValueError, match=f"{type(solver).__name__} does not fill"):
        fixed_point(lambda x: x / 2, torch.ones(1, 1), solver, SHINE())


@pytest.mark.parametrize("refine", [-1, 1.0, True])
def test_refine_out_of_range_raises(refine: Any) -> None:
    with pytest.raises(ValueError, match=f"refine must be an integer >= 0.*{refine!r}"):
        SHINE(refine=refine)
