"""All adjoints: gradients, recorded evaluations, scaling, excluded samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

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
    Cotangent,
    FixedPointSolver,
    Implicit,
    JacobianFree,
    Neumann,
    Picard,
    Recording,
    Report,
    Status,
    Unrolled,
    fixed_point,
)

from ...one_test import in_one_test

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


Solve = Callable[[FixedPointSolver, Adjoint], tuple[Tensor, ...]]


def solve_of(problem: Any, output: bool = False) -> Solve:
    """Return a function that solves a problem; it returns the parts of the solution."""

    def solve(solver: FixedPointSolver, adjoint: Adjoint) -> tuple[Tensor, ...]:
        step = problem.step(*problem.parameters)
        solution = fixed_point(step, problem.x0, solver, adjoint)
        parts = solution.x if isinstance(solution.x, tuple) else (solution.x,)
        return (*parts, solution.output) if output else parts

    return solve


# The solution and its differences by the name of the problem, the same for every solver
# and adjoint.
DIFFERENCES: dict[str, tuple[tuple[Tensor, ...], list[float]]] = {}


def random_like(tensors: tuple[Tensor, ...], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in tensors]


def loss_of(parts: tuple[Tensor, ...]) -> Tensor:
    """Return a linear loss with random weights."""
    terms = zip(parts, random_like(parts, 1), strict=True)
    return torch.stack([(part.conj() * w).real.sum() for part, w in terms]).sum()


@torch.no_grad()
def differences(
    problem: Any, name: str, output: bool
) -> tuple[tuple[Tensor, ...], list[float]]:
    """Return the solution, and the derivative of its loss along a random direction of
    each parameter, by central differences."""
    if name not in DIFFERENCES:
        solve, solver, slopes = solve_of(problem, output), Anderson(**TIGHT), []
        directions = random_like(problem.parameters, 2)
        for parameter, direction in zip(problem.parameters, directions, strict=True):
            kept, ends = parameter.clone(), []
            for change in (1e-5, -1e-5):
                parameter.copy_(kept + change * direction)
                ends.append(float(loss_of(solve(solver, Implicit()))))
            parameter.copy_(kept)
            slopes.append((ends[0] - ends[1]) / 2e-5)
        DIFFERENCES[name] = solve(solver, Implicit()), slopes
    return DIFFERENCES[name]


def check_gradients(
    problem: Any,
    name: str,
    solver: FixedPointSolver,
    adjoint: Adjoint,
    output: bool = False,
) -> None:
    """Compare the solution with that of Anderson acceleration, and the gradients with
    central differences. A second backward has the same gradients."""
    solution, slopes = differences(problem, name, output)
    found = solve_of(problem, output)(solver, adjoint)
    torch.testing.assert_close(found, solution, rtol=1e-9, atol=1e-9)
    loss = loss_of(found)
    gradients = torch.autograd.grad(loss, problem.parameters, retain_graph=True)
    again = torch.autograd.grad(loss, problem.parameters)
    assert all(map(torch.equal, gradients, again))
    directions = random_like(problem.parameters, 2)
    for gradient, direction, slope in zip(gradients, directions, slopes, strict=True):
        value = float((gradient * direction).sum())
        assert value == pytest.approx(slope, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("solver", "adjoint"), PAIRS, ids=str)
def test_gradient_equals_finite_differences(
    problem: Any,
    solver: FixedPointSolver,
    adjoint: Adjoint,
    request: pytest.FixtureRequest,
) -> None:
    check_gradients(problem, problem_name(request), solver, adjoint)


def problem_name(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["problem"])


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("problem", ["potential"], indirect=True)
def test_gradient_by_cg_for_a_symmetric_jacobian(
    problem: Any, solver: FixedPointSolver
) -> None:
    check_gradients(problem, "potential", solver, Implicit(CG(**TIGHT)))


@pytest.mark.parametrize("adjoint", SERIES, ids=str)
def test_long_series_equal_finite_differences(
    problem: Any, adjoint: Adjoint, request: pytest.FixtureRequest
) -> None:
    check_gradients(problem, problem_name(request), Anderson(**TIGHT), adjoint)


@pytest.mark.parametrize("adjoint", EXACT + SERIES, ids=str)
def test_gradient_through_an_output_equals_finite_differences(
    output_problem: Any, adjoint: Adjoint, solver_for: Any
) -> None:
    solver = solver_for(adjoint, **TIGHT)
    check_gradients(output_problem, "output", solver, adjoint, output=True)


def test_gradient_of_an_affine_step_has_its_closed_form(
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
def test_only_the_last_evaluations_are_recorded(
    problem: Any, adjoint: Adjoint, logged: Any, solver_for: Any
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
    assert step.evaluations == before  # the backward does not evaluate the step


@pytest.mark.parametrize("budget", [1, 2, 7])
@pytest.mark.parametrize("problem", ["convolution"], indirect=True)
def test_fixed_budget_equals_a_hand_written_loop(
    problem: Any, budget: int, logged: Any
) -> None:
    """As in ReTune: T - 1 evaluations without a graph, and one with it."""
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
def test_solution_has_no_graph_if_the_step_has_no_parameters(
    problem: Any, adjoint: Adjoint, solver_for: Any
) -> None:
    step = problem.step(*(p.detach() for p in problem.parameters))
    solution = fixed_point(step, problem.x0, solver_for(adjoint), adjoint)
    assert not solution.x.requires_grad
    assert solution.converged.all()


@in_one_test("adjoint", ADJOINTS, ids=NAMES)
def test_gradient_of_a_constant_step(adjoint: Adjoint, solver_for: Any) -> None:
    """The Jacobian is zero, so that every adjoint is exact."""
    y = torch.tensor([[1.0, -2.0]], dtype=torch.float64, requires_grad=True)
    solver = replace(solver_for(adjoint), max_iter=5)
    solution = fixed_point(
        lambda x: y.square(), torch.zeros(1, 2).double(), solver, adjoint
    )
    assert solution.status == (Status.CONVERGED,)
    assert torch.equal(solution.x, y.square())
    (gradient,) = torch.autograd.grad(solution.x.sum(), y)
    torch.testing.assert_close(gradient, 2 * y.detach())


@in_one_test("factor", [1e-6, 1e6])
@in_one_test("dtype", [torch.float32, torch.float64])
@in_one_test("adjoint", ADJOINTS, ids=NAMES)
def test_scaling_the_loss_or_the_problem_only_scales_the_gradient(
    adjoint: Adjoint,
    dtype: torch.dtype,
    factor: float,
    random_contraction: Callable[..., Tensor],
    solver_for: Any,
) -> None:
    """The factor is a power of two, so that the rounding is the same."""
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


def test_recorded_value_that_is_not_returned_adds_no_gradient() -> None:
    """The second application leaves the domain, so that the first is returned."""
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


@dataclass(frozen=True)
class Scaled(Adjoint):
    """A user-defined adjoint: a multiple of the cotangent, with a made-up report."""

    reads_inverse_jacobian: ClassVar[bool] = True

    factor: float
    seen: list[Any] = field(default_factory=list, compare=False)

    def transform(
        self, recording: Recording, cotangent: Cotangent
    ) -> tuple[Tensor, Report | None]:
        self.seen.append((recording, cotangent))
        _, report = recording.iterate_adjoint(
            Picard(max_iter=1, rtol=1e-12), cotangent.state, cotangent.state
        )
        return self.factor * cotangent.state, report


def test_user_defined_adjoint_sets_the_cotangent_and_the_report() -> None:
    y = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    adjoint = Scaled(7.0)
    solution = fixed_point(
        lambda x: 0.5 * x + y, torch.zeros_like(y), Broyden(rtol=1e-9), adjoint
    )
    with pytest.warns(ConvergenceWarning, match="adjoint solve of Scaled: all"):
        solution.x.sum().backward()
    assert y.grad is not None
    assert torch.equal(y.grad, torch.full_like(y, 7.0))
    assert solution.backward is not None
    assert solution.backward.status == (Status.MAX_ITER,) * 2
    ((recording, cotangent),) = adjoint.seen
    assert recording.inverse_jacobian is solution.inverse_jacobian
    assert torch.equal(recording.value, solution.x)
    assert torch.equal(cotangent.state, torch.ones_like(y))
    assert cotangent.output is None


def test_adjoint_that_reads_an_inverse_jacobian_refuses_other_solvers() -> None:
    with pytest.raises(ValueError, match=r"Scaled reads .* Anderson does not fill"):
        fixed_point(lambda x: x / 2, torch.ones(1, 1), Anderson(), Scaled(1.0))


def test_recording_gives_products_with_the_jacobian(output_problem: Any) -> None:
    weight, scale, _, readout = output_problem.parameters
    step = output_problem.step(*output_problem.parameters)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    value, output = step.step_and_output(x)
    recording = Recording(value, output, x, torch.tensor([False, False, True]))
    slope = scale * (1 - torch.tanh(x @ weight.mT) ** 2)
    jacobian = (slope[:, :, None] * weight).detach()
    of_output = (torch.cos(x @ readout.mT)[:, :, None] * readout).detach()
    jacobian[2] = of_output[2] = 0.0  # the third sample is excluded
    v, w = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 2).double()

    def times(matrix: Tensor, rows: Tensor) -> Tensor:
        return torch.einsum("bij,bj->bi", matrix, rows)

    operator = recording.adjoint_operator()
    for result, expected in (
        (recording.vjp(Cotangent(v)), times(jacobian.mT, v)),
        (
            recording.vjp(Cotangent(v, w)),
            times(jacobian.mT, v) + times(of_output.mT, w),
        ),
        (recording.jvp(v), times(jacobian, v)),
        (recording.right_side(Cotangent(v)), v),
        (recording.right_side(Cotangent(v, w)), v + times(of_output.mT, w)),
        (operator.apply(v), v - times(jacobian.mT, v)),
        (operator.adjoint(v), v - times(jacobian, v)),
    ):
        torch.testing.assert_close(result, expected)
    solved, report = recording.iterate_adjoint(Anderson(rtol=1e-10), v, v)
    torch.testing.assert_close(operator.apply(solved), v, rtol=1e-8, atol=1e-8)
    assert bool(report.converged.all())
