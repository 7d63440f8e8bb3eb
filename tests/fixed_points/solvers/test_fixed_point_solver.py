"""What every fixed-point solver does: stopping, independence, domains, counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.fixed_points import (
    Anderson,
    Broyden,
    ConvergenceWarning,
    FixedPointSolver,
    JacobianFree,
    Picard,
    StateLayout,
    Status,
    fixed_point,
)

TYPES = [Picard, Anderson, Broyden]
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
    """A contraction that differs from sample to sample."""

    weight: Tensor
    y: Tensor

    def __call__(self, x: Any) -> Tensor:
        return torch.tanh((self.weight @ x[..., None])[..., 0]) + self.y

    def __getitem__(self, index: Any) -> Rows:
        return Rows(self.weight[index], self.y[index])


@pytest.fixture
def rows(random_contraction: Callable[..., Tensor]) -> Rows:
    """Samples from easy to hard."""
    rates = (0.1, 0.5, 0.95)
    weight = torch.stack([random_contraction(6, rate) for rate in rates])
    return Rows(weight, 0.1 * torch.randn(3, 6, dtype=F64))


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_samples_do_not_see_their_batch_mates(
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


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_permuting_the_batch_permutes_the_result(
    rows: Rows, solver: FixedPointSolver
) -> None:
    order = torch.tensor([2, 0, 1])
    x0 = torch.zeros(3, 6, dtype=F64)
    base = fixed_point(rows, x0, solver)
    other = fixed_point(rows[order], x0, solver)
    torch.testing.assert_close(other.x, base.x[order], rtol=1e-12, atol=1e-12)
    assert other.iterations.tolist() == base.iterations[order].tolist()


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_evaluations_are_counted_and_gradients_do_not_change_the_value(
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


@pytest.mark.parametrize("budget", [1, 2, 13])
@pytest.mark.parametrize("solver_type", TYPES)
def test_a_fixed_budget_is_spent(
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


@pytest.mark.parametrize("solver_type", TYPES)
def test_max_iter_reached_warns_with_a_remedy(rows: Rows, solver_type: Any) -> None:
    solver = solver_type(max_iter=4, rtol=1e-3)
    with pytest.warns(ConvergenceWarning, match=r"MAX_ITER \(sample .*2\): .*raise"):
        solution = fixed_point(rows, torch.zeros(3, 6, dtype=F64), solver)
    assert solution.status[0] is Status.CONVERGED
    assert solution.status[2] is Status.MAX_ITER
    assert solution.iterations.tolist()[2] == 4


@pytest.mark.parametrize("solver_type", TYPES)
def test_absolute_tolerance_stops_too(rows: Rows, solver_type: Any) -> None:
    solution = fixed_point(
        rows, torch.zeros(3, 6, dtype=F64), solver_type(rtol=0, atol=1e-6)
    )
    assert solution.converged.all()
    assert bool((solution.absolute_residual <= 1e-6).all())
    defect = torch.linalg.vector_norm(rows(solution.x) - solution.x, dim=1)
    assert bool((defect <= 1e-6).all())  # f contracts: its value is better still


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("solver_type", TYPES)
def test_a_fixed_point_at_zero(solver_type: Any, dtype: torch.dtype) -> None:
    r"""The residual is relative to the first one where :math:`\|f(x)\|` vanishes."""
    solution = fixed_point(
        lambda x: 0.5 * torch.sin(x), torch.ones(2, 3, dtype=dtype), solver_type()
    )
    assert solution.converged.all()
    assert solution.x.abs().max() < 1e-3


@pytest.mark.parametrize("solver_type", TYPES)
def test_starting_at_the_fixed_point(solver_type: Any) -> None:
    x0 = torch.tensor([[0.0, 0.0], [2.0, 2.0]], dtype=F64)
    y = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=F64)
    for solver in (solver_type(), solver_type(rtol=0, max_iter=5)):
        solution = fixed_point(lambda x: x / 2 + y, x0, solver)
        assert torch.equal(solution.x, x0)
        assert solution.residual.tolist() == [0.0, 0.0]
        assert not solution.failed_count
        assert solution.iterations.tolist() == [1 if solver.has_tolerance else 5] * 2


@pytest.mark.parametrize("solver_type", TYPES)
def test_rounding_at_the_fixed_point_is_no_divergence(
    rows: Rows, solver_type: Any
) -> None:
    """A warm start: the first residual is rounding, and so are all others."""
    x0 = fixed_point(
        rows, torch.zeros(3, 6, dtype=F64), Picard(max_iter=2000, rtol=0)
    ).x
    ripple = iter([0.0, 2e-16, -2e-16] * 4)

    def step(x: Any) -> Tensor:
        return rows(x) + next(ripple)

    with torch.no_grad():
        solution = fixed_point(step, x0, solver_type(max_iter=12, rtol=0))
    assert solution.status == (Status.COMPLETED,) * 3


@pytest.mark.parametrize("shape", [(1,), (4,), (1, 1), (1, 1, 1, 1), (2, 3, 5, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, F64, torch.complex64])
@pytest.mark.parametrize("solver_type", TYPES)
def test_any_shape_and_precision(
    solver_type: Any, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    y = torch.randn(shape, dtype=dtype)
    solution = fixed_point(lambda x: -0.5 * x + y, torch.zeros_like(y), solver_type())
    assert solution.x.shape == y.shape
    assert solution.x.dtype == dtype
    assert solution.converged.all()
    torch.testing.assert_close(solution.x, y / 1.5, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("solver_type", [Anderson, Broyden])
def test_acceleration_goes_on_after_a_proposal_that_failed(solver_type: Any) -> None:
    """A step that breaks at one accelerated proposal: one plain step, then on."""
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
def test_float32_reaches_its_tolerance_where_picard_needs_hundreds(
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
def test_a_forgotten_sample_starts_from_the_plain_step(solver: Any) -> None:
    """The others keep their history."""
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
