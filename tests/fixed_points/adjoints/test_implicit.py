"""The adjoint solve: independence of samples, reports, failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.fixed_points import (
    CG,
    CGNE,
    GMRES,
    SHINE,
    Adjoint,
    Anderson,
    Broyden,
    ConvergenceError,
    ConvergenceWarning,
    Implicit,
    JacobianFree,
    Neumann,
    Picard,
    Solution,
    Status,
    fixed_point,
)

from ...one_test import in_one_test

F64 = torch.float64
RTOL = {"rtol": 1e-9, "max_iter": 1000}
ADJOINTS = [
    Implicit(GMRES(**RTOL)),
    Implicit(GMRES(restart=4, **RTOL)),
    Implicit(CG(**RTOL)),
    Implicit(CGNE(**RTOL)),
    Implicit(Picard(**RTOL)),
    Implicit(Anderson(**RTOL)),
    Implicit(Broyden(**RTOL)),
    Neumann(),
    JacobianFree(steps=2),
    SHINE(),
    SHINE(refine=3),
]


def solve(weight: Tensor, y: Tensor, adjoint: Adjoint) -> tuple[Solution, Tensor]:
    """Return a solution and the gradient in y, with products sample by sample."""
    y = y.clone().requires_grad_()

    def step(x: Any) -> Tensor:
        rows = [a @ torch.tanh(row) for a, row in zip(weight, x, strict=True)]
        return torch.stack(rows) + y

    solution = fixed_point(step, torch.zeros_like(y), Broyden(rtol=1e-8), adjoint)
    (gradient,) = torch.autograd.grad((solution.x**3).sum(), y)
    return solution, gradient


@pytest.fixture
def rows(random_contraction: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    """Return nearly linear steps with symmetric Jacobians of increasing norm."""
    weights = []
    for rate in (0.1, 0.6, 0.95):
        matrix = random_contraction(8, 1.0)
        symmetric = matrix @ matrix.mT
        weights.append(rate * symmetric / torch.linalg.matrix_norm(symmetric, 2))
    return torch.stack(weights), 1e-6 * torch.randn(3, 8, dtype=F64)


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=str)
def test_gradient_of_a_sample_does_not_depend_on_its_batch(
    rows: tuple[Tensor, Tensor], adjoint: Adjoint
) -> None:
    weight, y = rows
    together, gradient = solve(weight, y, adjoint)
    scale = gradient.abs().amax(dim=1, keepdim=True)
    solves = isinstance(adjoint, Implicit)
    if solves:
        assert together.backward is not None
        work = together.backward.evaluations
        assert work[0] < work[2]
    for order in ([0], [1], [2], [2, 0, 1]):
        other, part = solve(weight[order], y[order], adjoint)
        torch.testing.assert_close(
            part / scale[order], gradient[order] / scale[order], rtol=0, atol=1e-12
        )
        if together.backward is not None:
            assert other.backward is not None
            for name in ("evaluations", "iterations"):
                expected = getattr(together.backward, name)[order]
                assert getattr(other.backward, name).tolist() == expected.tolist()
            assert other.backward.status == tuple(
                together.backward.status[i] for i in order
            )


@pytest.mark.parametrize("adjoint", ADJOINTS[:7], ids=str)
def test_backward_report_has_the_true_residual(
    rows: tuple[Tensor, Tensor], adjoint: Adjoint
) -> None:
    """The gradient in y is v, with (I - J^T) v = dl/dx."""
    weight, y = rows
    solution, v = solve(weight, y, adjoint)
    x = solution.x.detach()
    rhs = 3 * x**2
    jacobian = weight * (1 - torch.tanh(x)[:, None, :] ** 2)
    left = rhs - v + (jacobian.mT @ v[..., None])[..., 0]
    relative = torch.linalg.vector_norm(left, dim=1) / torch.linalg.vector_norm(
        rhs, dim=1
    )
    report = solution.backward
    assert report is not None
    assert report.status == (Status.CONVERGED,) * 3
    assert bool((report.residual <= 1e-9).all())
    assert bool((relative <= 1e-7).all())  # 1 / (1 - rate) for solvers of fixed points


@pytest.mark.parametrize("adjoint", ADJOINTS[:7], ids=str)
def test_zero_cotangent_costs_at_most_one_product(
    rows: tuple[Tensor, Tensor], adjoint: Adjoint
) -> None:
    weight, y = rows
    y = y.clone().requires_grad_()
    solution = fixed_point(
        lambda x: (weight @ x[..., None])[..., 0] + y,
        torch.zeros_like(y),
        Anderson(),
        adjoint,
    )
    (gradient,) = torch.autograd.grad(solution.x[2].sum(), y)
    assert not gradient[:2].any()
    assert gradient[2].any()
    assert solution.backward is not None
    assert solution.backward.status == (Status.CONVERGED,) * 3
    assert solution.backward.evaluations.tolist()[:2] <= [1, 1]


def test_cg_takes_one_product_per_iteration(
    rows: tuple[Tensor, Tensor],
) -> None:
    solution, _ = solve(*rows, Implicit(CG(**RTOL)))
    report = solution.backward
    assert report is not None
    assert report.evaluations.tolist() == report.iterations.tolist()


def test_nonfinite_jacobian_ends_its_sample_as_nonfinite() -> None:
    """The square root has an infinite derivative at the fixed point 0 of sample 1."""
    y = torch.tensor([[1.0], [0.0]], dtype=F64, requires_grad=True)
    x0 = torch.tensor([[1.0], [0.0]], dtype=F64)
    for solver in (GMRES(), CGNE(), Picard(), Anderson()):
        solution = fixed_point(
            lambda x: 0.5 * torch.sqrt(x) + y,
            x0,
            adjoint=Implicit(solver),
            on_failure="ignore",
        )
        assert solution.converged.all()
        (gradient,) = torch.autograd.grad(solution.x.sum(), y)
        assert solution.backward is not None
        assert solution.backward.status == (Status.CONVERGED, Status.NONFINITE)
        exact = 1 / (1 - 0.25 / solution.x[0].detach().sqrt())
        torch.testing.assert_close(gradient[0], exact, rtol=2e-3, atol=0)


@in_one_test("solver", [None, "gmres", GMRES, 5, Implicit()])
def test_solver_of_the_wrong_type_raises(solver: Any) -> None:
    with pytest.raises(
        TypeError, match=r"solver must be a LinearSolver \(CG, .*FixedP"
    ):
        Implicit(solver)


def test_default_solver_is_gmres() -> None:
    assert Implicit() == Implicit(GMRES(rtol=1e-3))


def _backward(on_failure: Any, solver: Any) -> tuple[Solution, Tensor]:
    """Return the solution of a step with a nonsymmetric Jacobian, and y."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 6, dtype=F64, generator=generator)
    weight = 0.95 * weight / torch.linalg.matrix_norm(weight, 2)
    y = torch.ones(1, 6, dtype=F64, requires_grad=True)
    solution = fixed_point(
        lambda x: x @ weight.mT + y,
        torch.zeros(1, 6, dtype=F64),
        Anderson(),
        Implicit(solver),
        on_failure,
    )
    return solution, y


SHORT = [
    solver_type(max_iter=2, rtol=1e-10)
    for solver_type in (GMRES, CGNE, Picard, Anderson, Broyden)
]


@pytest.mark.parametrize("solver", SHORT, ids=str)
def test_failed_adjoint_solve_warns_or_raises(solver: Any) -> None:
    solution, y = _backward("warn", solver)
    with pytest.warns(ConvergenceWarning, match="adjoint solve.*\n.*MAX_ITER"):
        solution.x.sum().backward()
    assert solution.backward is not None
    assert solution.backward.status == (Status.MAX_ITER,)
    assert f"backward: {solution.backward}" in str(solution)

    solution, y = _backward("raise", solver)
    with pytest.raises(ConvergenceError, match="adjoint solve") as caught:
        solution.x.sum().backward()
    assert caught.value.solution is solution.backward
    assert y.grad is None

    solution, y = _backward("ignore", solver)
    solution.x.sum().backward()
    assert y.grad is not None


def test_cg_on_an_indefinite_system_warns_as_diverged() -> None:
    y = torch.ones(1, 2, dtype=F64, requires_grad=True)
    # I - J^T = [[1, -.5], [.5, -1]] has no definite symmetric part.
    weight = torch.tensor([[0.0, 0.5], [-0.5, 2.0]], dtype=F64)
    x = fixed_point(
        lambda x: x @ weight.mT + y, torch.zeros(1, 2).double(), adjoint=Implicit(CG())
    ).x
    with pytest.warns(ConvergenceWarning, match="DIVERGED.*for CG, use GMRES"):
        (x * torch.tensor([0.1, 1.0])).sum().backward()
