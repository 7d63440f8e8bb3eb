"""All fixed-point solvers: stopping, independence of samples, counts, proposals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepinv_equilibrium.fixed_points import (
    SHINE,
    Anderson,
    Broyden,
    ConvergenceWarning,
    FixedPointSolver,
    Iteration,
    JacobianFree,
    LowRankInverse,
    Picard,
    Safeguarded,
    StateLayout,
    Status,
    Unrolled,
    fixed_point,
)

from ...one_test import in_one_test
from ..exported_classes import SOLVER_TYPES

SOLVERS = [
    Picard(),
    Picard(relaxation=0.7),
    Picard(relaxation=1.2),
    Anderson(),
    Anderson(history_size=2, beta=0.8),
    Anderson(history_size=1),
    Broyden(),
    Broyden(history_size=3),
    Broyden(history_size=1),
]
F64 = torch.float64


@dataclass
class Rows:
    """A different contraction for each sample."""

    weight: Tensor
    y: Tensor

    def __call__(self, x: Any) -> Tensor:
        return torch.tanh((self.weight @ x[..., None])[..., 0]) + self.y

    def __getitem__(self, index: Any) -> Rows:
        return Rows(self.weight[index], self.y[index])


@pytest.fixture
def rows(random_contraction: Callable[..., Tensor]) -> Rows:
    """Return three samples of increasing rate."""
    rates = (0.1, 0.5, 0.95)
    weight = torch.stack([random_contraction(6, rate) for rate in rates])
    return Rows(weight, 0.1 * torch.randn(3, 6, dtype=F64))


@in_one_test("solver", SOLVERS, ids=str)
def test_result_of_a_sample_does_not_depend_on_its_batch(
    rows: Rows, solver: FixedPointSolver
) -> None:
    x0 = torch.zeros(3, 6, dtype=F64)
    together = fixed_point(rows, x0, solver)
    assert int(together.iterations[0]) < int(together.iterations[2])
    for i in range(3):
        alone = fixed_point(rows[i : i + 1], x0[i : i + 1], solver)
        torch.testing.assert_close(together.x[i], alone.x[0], rtol=1e-12, atol=1e-12)
        assert together.iterations[i] == alone.iterations[0]
        assert together.evaluations[i] == alone.evaluations[0]
        assert together.status[i] == alone.status[0]
        length = int(alone.iterations[0])
        torch.testing.assert_close(
            together.history[:length, i], alone.history[:, 0], rtol=1e-6, atol=1e-12
        )
        assert together.history[length:, i].isnan().all()
        assert alone.history.shape == (length, 1)
        assert alone.history[-1, 0] == alone.residual[0] <= solver.rtol


@in_one_test("solver", SOLVERS, ids=str)
def test_permuting_the_batch_permutes_the_result(
    rows: Rows, solver: FixedPointSolver
) -> None:
    order = torch.tensor([2, 0, 1])
    x0 = torch.zeros(3, 6, dtype=F64)
    base = fixed_point(rows, x0, solver)
    other = fixed_point(rows[order], x0, solver)
    torch.testing.assert_close(other.x, base.x[order], rtol=1e-12, atol=1e-12)
    assert other.iterations.tolist() == base.iterations[order].tolist()


@in_one_test("solver", SOLVERS, ids=str)
def test_evaluations_are_counted_and_the_value_is_the_same_with_gradients(
    rows: Rows, solver: FixedPointSolver, logged: Any
) -> None:
    x0 = torch.zeros(3, 6, dtype=F64)
    rows.y.requires_grad_()
    tracked = fixed_point(rows, x0, solver, JacobianFree())
    step, seen = logged(rows), []
    with torch.no_grad():
        untracked = fixed_point(
            step, x0, solver, observer=lambda x, value: seen.append((x, value))
        )
    assert step.evaluations == int(untracked.evaluations.max()) == len(seen)
    assert torch.equal(untracked.x, tracked.x)
    assert torch.equal(untracked.history[:3], tracked.history[:3])
    for x, value in seen:
        torch.testing.assert_close(value, rows(x).detach())


@in_one_test("budget", [1, 2, 13])
@in_one_test("solver_type", SOLVER_TYPES)
def test_fixed_budget_is_spent_and_ends_as_completed(
    rows: Rows, solver_type: Any, budget: int, logged: Any
) -> None:
    step = logged(rows)
    with torch.no_grad():
        solution = fixed_point(
            step, torch.zeros(3, 6, dtype=F64), solver_type(max_iter=budget, rtol=0)
        )
    assert step.evaluations == budget
    assert solution.status == (Status.COMPLETED,) * 3
    assert solution.iterations.tolist() == [budget] * 3
    assert solution.history.shape == (budget, 3)


@pytest.mark.parametrize("solver_type", SOLVER_TYPES)
def test_spent_budget_warns_with_a_remedy(rows: Rows, solver_type: Any) -> None:
    solver = solver_type(max_iter=6, rtol=1e-3)
    with pytest.warns(ConvergenceWarning, match="MAX_ITER: .*raise"):
        solution = fixed_point(rows, torch.zeros(3, 6, dtype=F64), solver)
    assert solution.status[0] is Status.CONVERGED
    assert solution.status[2] is Status.MAX_ITER
    assert solution.iterations.tolist()[2] == 6


@pytest.mark.parametrize("solver_type", SOLVER_TYPES)
def test_absolute_tolerance_stops_a_sample(rows: Rows, solver_type: Any) -> None:
    solution = fixed_point(
        rows, torch.zeros(3, 6, dtype=F64), solver_type(rtol=0, atol=1e-6)
    )
    assert solution.converged.all()
    assert bool((solution.absolute_residual <= 1e-6).all())
    defect = torch.linalg.vector_norm(rows(solution.x) - solution.x, dim=1)
    assert bool(
        (defect <= 1e-6).all()
    )  # f contracts: the residual of its value is smaller


@in_one_test("dtype", [torch.float32, F64])
@in_one_test("solver_type", SOLVER_TYPES)
def test_fixed_point_at_zero_is_found(solver_type: Any, dtype: torch.dtype) -> None:
    r"""Where :math:`\|f(x)\|` vanishes, the residual is relative to the first one."""
    solution = fixed_point(
        lambda x: 0.5 * torch.sin(x), torch.ones(2, 3, dtype=dtype), solver_type()
    )
    assert solution.converged.all()
    assert solution.x.abs().max() < 1e-3


@pytest.mark.parametrize("solver_type", SOLVER_TYPES)
def test_start_at_the_fixed_point_returns_it(solver_type: Any) -> None:
    x0 = torch.tensor([[0.0, 0.0], [2.0, 2.0]], dtype=F64)
    y = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=F64)
    for solver in (solver_type(), solver_type(rtol=0, max_iter=5)):
        solution = fixed_point(lambda x: x / 2 + y, x0, solver)
        assert torch.equal(solution.x, x0)
        assert solution.residual.tolist() == [0.0, 0.0]
        assert not solution.failed_count
        assert solution.iterations.tolist() == [1 if solver.has_tolerance else 5] * 2


@pytest.mark.parametrize("solver_type", SOLVER_TYPES)
def test_rounding_at_the_fixed_point_does_not_end_as_diverged(
    rows: Rows, solver_type: Any
) -> None:
    """All residuals are rounding, as the start is the fixed point."""
    x0 = fixed_point(
        rows, torch.zeros(3, 6, dtype=F64), Picard(max_iter=2000, rtol=0)
    ).x
    ripple = iter([0.0, 2e-16, -2e-16] * 4)

    def step(x: Any) -> Tensor:
        return rows(x) + next(ripple)

    with torch.no_grad():
        solution = fixed_point(step, x0, solver_type(max_iter=12, rtol=0))
    assert solution.status == (Status.COMPLETED,) * 3


@in_one_test("shape", [(1,), (4,), (1, 1), (1, 1, 1, 1), (2, 3, 5, 7)])
@in_one_test("dtype", [torch.float32, F64, torch.complex64])
@in_one_test("solver_type", SOLVER_TYPES)
def test_solvers_work_for_any_shape_and_precision(
    solver_type: Any, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    y = torch.randn(shape, dtype=dtype)
    solution = fixed_point(lambda x: -0.5 * x + y, torch.zeros_like(y), solver_type())
    assert solution.x.shape == y.shape
    assert solution.x.dtype == dtype
    assert solution.converged.all()
    torch.testing.assert_close(solution.x, y / 1.5, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("solver_type", [Anderson, Broyden])
def test_accelerated_solver_continues_after_a_failed_proposal(solver_type: Any) -> None:
    """The step returns NaN at one accelerated proposal."""
    matrix = torch.diag(torch.linspace(0.1, 0.98, 8, dtype=F64))
    y = torch.ones(1, 8, dtype=F64)
    calls = iter(range(10**6))

    def broken_once(x: Any) -> Tensor:
        return x @ matrix + y + (torch.nan if next(calls) == 4 else 0.0)

    solution = fixed_point(broken_once, torch.zeros_like(y), solver_type(rtol=1e-8))
    assert solution.converged.all()
    reference = fixed_point(
        lambda x: x @ matrix + y, torch.zeros_like(y), solver_type(rtol=1e-8)
    )
    assert (
        int(solution.iterations) <= int(reference.iterations) + 5
    )  # the five forgotten


@pytest.mark.parametrize("solver_type", [Anderson, Broyden])
def test_accelerated_float32_needs_less_than_half_of_picards_iterations(
    solver_type: Any, random_contraction: Callable[..., Tensor]
) -> None:
    raw = random_contraction(50, 1.0)
    symmetric = raw @ raw.mT
    weight = (0.93 * symmetric / torch.linalg.matrix_norm(symmetric, 2)).float()
    y = torch.randn(4, 50)
    fast = fixed_point(
        lambda x: x @ weight + y, torch.zeros_like(y), solver_type(rtol=1e-5)
    )
    plain = fixed_point(
        lambda x: x @ weight + y, torch.zeros_like(y), Picard(rtol=1e-5, max_iter=500)
    )
    assert fast.converged.all()
    assert int(plain.iterations.max()) > 2 * int(fast.iterations.max())
    exact = torch.linalg.solve((torch.eye(50) - weight).double(), y.double().mT).mT
    error = torch.linalg.vector_norm(fast.x - exact, dim=1)
    bound = 1e-5 / (1 - 0.93) + 1e-5
    assert bool((error <= bound * torch.linalg.vector_norm(exact, dim=1)).all())


@pytest.mark.parametrize("solver", [Anderson(), Broyden()], ids=str)
def test_forget_restarts_its_samples_from_the_plain_step(solver: Any) -> None:
    """The other samples keep their history."""
    x0 = torch.zeros(2, 4, dtype=F64)
    iteration = solver.begin(x0, StateLayout.of(x0))
    everyone = torch.ones(2, dtype=torch.bool)
    for _ in range(3):
        x, value = torch.randn(2, 2, 4, dtype=F64)
        iteration.propose(x, value, everyone)
    iteration.forget(torch.tensor([True, False]))
    x, value = torch.randn(2, 2, 4, dtype=F64)
    proposal = iteration.propose(x, value, everyone)
    torch.testing.assert_close(proposal[0], value[0])
    assert float((proposal[1] - value[1]).norm()) > 1e-3


@dataclass(frozen=True, kw_only=True)
class Scripted(FixedPointSolver):
    """A user-defined solver that logs its calls and proposes given numbers."""

    proposals: tuple[float, ...]
    log: list[Any] = field(default_factory=list, compare=False)

    def begin(self, x0: Tensor, layout: StateLayout) -> ScriptedIteration:
        self.log.append(("begin", x0.tolist(), layout.shapes))
        return ScriptedIteration(self)


@dataclass
class ScriptedIteration(Iteration):
    solver: Scripted
    count: int = 0

    def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
        self.solver.log.append(("propose", x.tolist(), value.tolist(), active.tolist()))
        self.count += 1
        return torch.full_like(x, self.solver.proposals[self.count - 1])

    def forget(self, where: Tensor) -> None:
        self.solver.log.append(("forget", where.tolist()))

    def inverse_jacobian(self) -> LowRankInverse | None:
        self.solver.log.append("inverse_jacobian")
        return super().inverse_jacobian()


def test_solver_calls_forget_before_propose_and_inverse_jacobian_at_the_end() -> None:
    """The second proposal is rejected, and the fourth meets the tolerance."""
    solver = Scripted(proposals=(3.0, 1000.0, 9.0, 4.0), max_iter=20)
    with torch.no_grad():
        solution = fixed_point(
            lambda x: 0.5 * x + 2, torch.zeros(1, 1, 1, dtype=F64), solver
        )
    assert solver.log == [
        ("begin", [[0.0]], ((1, 1, 1),)),
        ("forget", [False]),
        ("propose", [[0.0]], [[2.0]], [True]),
        ("forget", [False]),
        ("propose", [[3.0]], [[3.5]], [True]),
        ("forget", [True]),
        ("propose", [[1000.0]], [[502.0]], [False]),
        ("forget", [False]),  # at the value of the best iterate, 3
        ("propose", [[3.5]], [[3.75]], [True]),
        "inverse_jacobian",
    ]
    assert solution.x.item() == 4.0
    assert solution.status == (Status.CONVERGED,)
    assert solution.inverse_jacobian is None


def test_default_iteration_forgets_nothing_and_has_no_inverse_jacobian() -> None:
    class Plain(Iteration):
        def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
            return value

    iteration = Plain()
    iteration.forget(torch.ones(1, dtype=torch.bool))
    assert iteration.inverse_jacobian() is None
    with pytest.raises(TypeError, match="abstract"):
        Iteration()


@dataclass(frozen=True, kw_only=True)
class Averaged(FixedPointSolver):
    """A user-defined solver that is not accelerated, with an inverse Jacobian."""

    accelerated: ClassVar[bool] = False

    @property
    def fills_inverse_jacobian(self) -> bool:
        return True

    def begin(self, x0: Tensor, layout: StateLayout) -> Iteration:
        class Mean(Iteration):
            def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
                return (x + value) / 2

            def inverse_jacobian(self) -> LowRankInverse:
                """Return 2 I, exact for a step of derivative 1/2."""
                u = torch.eye(x0.shape[1], dtype=x0.dtype).expand(len(x0), -1, -1)
                return LowRankInverse(-u, u)

        return Mean()


def test_solver_that_is_not_accelerated_works_with_unrolled() -> None:
    y = torch.ones(2, 3, dtype=F64, requires_grad=True)
    solution = fixed_point(
        lambda x: 0.5 * x + y, torch.zeros_like(y), Averaged(rtol=1e-9), Unrolled()
    )
    solution.x.sum().backward()
    torch.testing.assert_close(y.grad, torch.full_like(y, 2.0), rtol=1e-7, atol=0)


def test_solver_with_an_inverse_jacobian_works_with_shine() -> None:
    y = torch.ones(2, 3, dtype=F64, requires_grad=True)
    solution = fixed_point(
        lambda x: 0.5 * x + y, torch.zeros_like(y), Averaged(rtol=1e-9), SHINE()
    )
    solution.x.sum().backward()
    assert y.grad is not None
    assert torch.equal(y.grad, torch.full_like(y, 2.0))
    assert solution.backward is not None
    assert solution.backward.residual.tolist() == [0.0, 0.0]


@given(seed=st.integers(0, 10**6), n=st.integers(3, 12))
@settings(max_examples=15)
def test_accelerated_iterates_are_equal_in_every_bit_with_other_samples(
    seed: int, n: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(
        torch.randn(n, n, dtype=torch.float64, generator=generator)
    ).Q
    shift = torch.randn(4, n, dtype=torch.float64, generator=generator)
    shift[1:] *= 3

    def step(x: Tensor) -> Tensor:
        # One sample at a time, so that only the solver can mix the samples.
        rows = zip(x, shift, strict=False)
        return torch.stack([0.9 * (torch.tanh(rotation @ row) + b) for row, b in rows])

    anderson = Anderson(max_iter=40, rtol=1e-10)
    for solver in (anderson, Safeguarded(anderson, 0.9, max_iter=40, rtol=1e-10)):
        x0 = torch.zeros_like(shift)
        together = fixed_point(step, x0, solver, on_failure="ignore").x[:1]
        alone = fixed_point(step, x0[:1], solver, on_failure="ignore").x
        assert torch.equal(together, alone)
