"""What every adjoint does: gradients, evaluations recorded, memory let go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
    ConvergenceWarning,
    FixedPointSolver,
    Implicit,
    JacobianFree,
    Neumann,
    Picard,
    Status,
    Unrolled,
    fixed_point,
)

TIGHT = {"rtol": 1e-12, "max_iter": 300}
SOLVERS = [Picard(**TIGHT), Anderson(**TIGHT), Broyden(**TIGHT)]
EXACT = [
    Implicit(GMRES(**TIGHT)),
    Implicit(GMRES(restart=3, **TIGHT)),
    Implicit(CGNE(**TIGHT)),
    Implicit(Picard(**TIGHT)),
    Implicit(Anderson(**TIGHT)),
    Implicit(Broyden(**TIGHT)),
    Unrolled(),
    SHINE(refine=12),
]
ADJOINTS = [
    Implicit(),
    Implicit(CG()),
    Implicit(CGNE()),
    Implicit(Anderson()),
    Implicit(Broyden()),
    Implicit(Picard()),
    Neumann(),
    JacobianFree(),
    JacobianFree(steps=3),
    SHINE(),
    SHINE(refine=2),
    Unrolled(),
]
NAMES = [str(adjoint) for adjoint in ADJOINTS]


PAIRS = [
    (solver, adjoint)
    for solver in SOLVERS
    for adjoint in EXACT
    if not (isinstance(adjoint, SHINE) and not solver.fills_inverse_jacobian)
    and not (isinstance(adjoint, Unrolled) and solver.accelerated)
]
SERIES = [Neumann(order=90), JacobianFree(steps=90)]


def solver_for(adjoint: Adjoint, **kwargs: Any) -> FixedPointSolver:
    if isinstance(adjoint, SHINE):
        return Broyden(**kwargs)
    if isinstance(adjoint, Unrolled):
        return Picard(**kwargs)
    return Anderson(**kwargs)


def check_gradients(
    problem: Any, solver: FixedPointSolver, adjoint: Adjoint, output: bool = False
) -> None:
    """Against central differences of the solution, for every parameter at once."""

    def solved(*parameters: Tensor) -> Any:
        step = problem.step(*parameters)
        solution = fixed_point(step, problem.x0, solver, adjoint)
        return (solution.x, solution.output) if output else solution.x

    assert torch.autograd.gradcheck(
        solved,
        problem.parameters,
        eps=1e-5,
        atol=1e-6,
        rtol=1e-6,
        fast_mode=True,
        check_undefined_grad=False,  # tests of the gate leave cotangents out
    )


@pytest.mark.parametrize(("solver", "adjoint"), PAIRS, ids=str)
def test_gradient_is_that_of_finite_differences(
    problem: Any, solver: FixedPointSolver, adjoint: Adjoint
) -> None:
    check_gradients(problem, solver, adjoint)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("problem", ["potential"], indirect=True)
def test_conjugate_gradients_serve_a_symmetric_jacobian(
    problem: Any, solver: FixedPointSolver
) -> None:
    check_gradients(problem, solver, Implicit(CG(**TIGHT)))


@pytest.mark.parametrize("adjoint", SERIES, ids=str)
def test_long_series_reach_the_same_gradient(problem: Any, adjoint: Adjoint) -> None:
    check_gradients(problem, Anderson(**TIGHT), adjoint)


@pytest.mark.parametrize("adjoint", EXACT + SERIES, ids=str)
def test_gradient_through_an_output(output_problem: Any, adjoint: Adjoint) -> None:
    check_gradients(output_problem, solver_for(adjoint, **TIGHT), adjoint, output=True)


def test_closed_form_of_an_affine_step(
    random_contraction: Callable[..., Tensor],
) -> None:
    r"""x = A x + y: with v = (I - A^T)^{-1} c, dl/dy = v and dl/dA = v x^T."""
    weight = random_contraction(5, 0.9).requires_grad_()
    y = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    c = torch.randn(2, 5, dtype=torch.float64)
    adjoint = Implicit(GMRES(**TIGHT))
    solution = fixed_point(
        lambda x: x @ weight.mT + y,
        torch.zeros(2, 5).double(),
        Anderson(**TIGHT),
        adjoint,
    )
    grads = torch.autograd.grad((solution.x * c).sum(), (y, weight))
    system = torch.eye(5, dtype=torch.float64) - weight.detach()
    x = torch.linalg.solve(system, y.detach().mT).mT
    v = torch.linalg.solve(system.mT, c.mT).mT
    torch.testing.assert_close(solution.x.detach(), x, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(grads, (v, v.mT @ x), rtol=1e-10, atol=1e-10)
    assert solution.backward is not None
    assert bool(solution.backward.converged.all())


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=NAMES)
@pytest.mark.parametrize("problem", ["potential"], indirect=True)
def test_one_step_is_recorded_and_nothing_before(
    problem: Any, adjoint: Adjoint, logged: Any
) -> None:
    step = logged(problem.step(*problem.parameters))
    solution = fixed_point(step, problem.x0, solver_for(adjoint), adjoint)
    recorded = sum(step.recorded)
    if isinstance(adjoint, Unrolled):
        assert recorded == step.evaluations == int(solution.iterations.max())
        return
    assert recorded == (adjoint.steps if isinstance(adjoint, JacobianFree) else 1)
    assert all(step.recorded[-recorded:])
    assert step.evaluations == int(solution.evaluations.max())
    before = step.evaluations
    solution.x.sum().backward()
    assert step.evaluations == before  # the backward differentiates, never evaluates


@pytest.mark.parametrize("budget", [1, 2, 7])
@pytest.mark.parametrize("problem", ["convolution"], indirect=True)
def test_fixed_budget_is_a_hand_written_loop(
    problem: Any, budget: int, logged: Any
) -> None:
    """T - 1 untracked evaluations and one tracked: what ReTune does."""
    step = logged(problem.step(*problem.parameters))
    solution = fixed_point(
        step, problem.x0, Picard(max_iter=budget, rtol=0), JacobianFree()
    )
    assert step.recorded == [False] * (budget - 1) + [True]
    assert solution.status == (Status.COMPLETED,) * 2
    assert solution.evaluations.tolist() == solution.iterations.tolist() == [budget] * 2
    grads = torch.autograd.grad(solution.x.square().sum(), problem.parameters)

    with torch.no_grad():
        x = problem.x0
        for _ in range(budget - 1):
            x = step(x)
    x = step(x)
    expected = torch.autograd.grad(x.square().sum(), problem.parameters)
    torch.testing.assert_close(solution.x, x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grads, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=NAMES)
@pytest.mark.parametrize("problem", ["potential"], indirect=True)
def test_without_anything_to_differentiate_no_graph_is_handed_out(
    problem: Any, adjoint: Adjoint
) -> None:
    step = problem.step(*(p.detach() for p in problem.parameters))
    solution = fixed_point(step, problem.x0, solver_for(adjoint), adjoint)
    assert not solution.x.requires_grad
    assert solution.converged.all()


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=NAMES)
def test_a_step_that_ignores_the_state(adjoint: Adjoint) -> None:
    """Its Jacobian is zero: every adjoint gives the gradient of the constant."""
    y = torch.tensor([[1.0, -2.0]], dtype=torch.float64, requires_grad=True)
    solver = replace(solver_for(adjoint), max_iter=5)
    solution = fixed_point(
        lambda x: y.square(), torch.zeros(1, 2).double(), solver, adjoint
    )
    assert solution.status == (Status.CONVERGED,)
    assert torch.equal(solution.x, y.square())
    (gradient,) = torch.autograd.grad(solution.x.sum(), y)
    torch.testing.assert_close(gradient, 2 * y.detach())


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("adjoint", ADJOINTS, ids=NAMES)
def test_scaling_the_loss_or_the_problem_scales_the_gradient_only(
    adjoint: Adjoint,
    dtype: torch.dtype,
    factor: float,
    random_contraction: Callable[..., Tensor],
) -> None:
    """By a power of two, so that rounding is the same: nothing else may differ."""
    factor = 2.0 ** round(torch.tensor(factor).log2().item())
    matrix = random_contraction(6, 0.9)
    weight = ((matrix + matrix.mT) / 2).to(dtype).requires_grad_()
    y = torch.randn(2, 6, dtype=dtype)

    def solve(size: float, loss_scale: float) -> tuple[Any, Tensor]:
        data = (size * y).requires_grad_()
        x0 = torch.zeros_like(data)
        solution = fixed_point(
            lambda x: x @ weight.mT + data, x0, solver_for(adjoint), adjoint, "ignore"
        )
        (gradient,) = torch.autograd.grad(loss_scale * solution.x.sum(), data)
        return solution, gradient

    base, gradient = solve(1.0, 1.0)
    for size, loss_scale in ((factor, 1.0), (1.0, factor)):
        other, scaled = solve(size, loss_scale)
        assert other.iterations.tolist() == base.iterations.tolist()
        torch.testing.assert_close(other.x / size, base.x, rtol=1e-6, atol=0)
        torch.testing.assert_close(scaled / loss_scale, gradient, rtol=1e-6, atol=0)
        if base.backward is not None:
            work = other.backward.evaluations
            assert work.tolist() == base.backward.evaluations.tolist()
            assert other.backward.status == base.backward.status


class HalvedWithin:
    """:math:`f(x) = x / 2 + y`, defined where :math:`|x| < 1`."""

    def __init__(self, y: Tensor):
        self.y = y

    def __call__(self, state: Any) -> Any:
        return state / 2 + self.y

    def domain(self, state: Any) -> Tensor:
        return (state.abs() < 1).all(dim=1)


def test_a_recorded_value_that_is_not_kept_adds_nothing() -> None:
    """The second application leaves the domain: its predecessor is returned."""
    y = torch.tensor([[0.7], [0.1]], dtype=torch.float64, requires_grad=True)
    solver = Picard(max_iter=2, rtol=0)
    with pytest.warns(ConvergenceWarning, match="domain"):
        solution = fixed_point(
            HalvedWithin(y), torch.zeros_like(y), solver, JacobianFree()
        )
    assert solution.status == (Status.DIVERGED, Status.COMPLETED)
    assert solution.x[0] == 0.7
    solution.x.sum().backward()
    assert y.grad is not None
    assert y.grad.tolist() == [[0.0], [1.0]]
