"""Samples that fail: status, value, warning, and no effect on other samples."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.fixed_points import (
    CGNE,
    GMRES,
    SHINE,
    Adjoint,
    Anderson,
    Broyden,
    ConvergenceError,
    ConvergenceWarning,
    FixedPointSolver,
    Implicit,
    JacobianFree,
    Neumann,
    Picard,
    Solution,
    Status,
    Unrolled,
    fixed_point,
)

from ..one_test import in_one_test
from .exported_classes import SOLVER_TYPES

F64 = torch.float64
ADJOINTS = [
    Implicit(GMRES(rtol=1e-12)),
    Implicit(CGNE(rtol=1e-12)),
    Implicit(Anderson(rtol=1e-12)),
    Implicit(Broyden(rtol=1e-12)),
    Implicit(Picard(rtol=1e-12, max_iter=300)),
    Neumann(),
    JacobianFree(),
    JacobianFree(steps=3),
    SHINE(),
    SHINE(refine=2),
    Unrolled(),
]


def solvers_for(adjoint: Adjoint) -> list[FixedPointSolver]:
    """Return solvers that the adjoint accepts, with tight tolerances."""
    if isinstance(adjoint, SHINE):
        return [Broyden(rtol=1e-10)]
    plain = [Picard(rtol=1e-10, max_iter=200), Picard(rtol=0, max_iter=9)]
    return plain if isinstance(adjoint, Unrolled) else [*plain, Anderson(rtol=1e-10)]


# Steps that turn the last sample of the measurement non-finite.
def _tainted(x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
    """Multiply by a measurement that is NaN."""
    return torch.tanh(x @ weight) * y


def _root(x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
    """Take the square root of a negative number."""
    return torch.sqrt((x @ weight) / 4 + y)


def _quotient(x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
    """Divide by zero."""
    return torch.tanh(x @ weight) / y


def _logarithm(x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
    return torch.log(3 + torch.tanh(x @ weight) + y)


def _overflow(x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
    return torch.tanh(x @ weight) + torch.exp(y)


BAD = {
    _tainted: torch.nan,
    _root: -torch.inf,
    _quotient: 0.0,
    _logarithm: -torch.inf,
    _overflow: 1e4,
}


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=str)
@pytest.mark.parametrize("formula", list(BAD), ids=lambda f: f.__name__[1:])
def test_nonfinite_sample_does_not_change_other_samples(
    formula: Any, adjoint: Adjoint, random_contraction: Callable[..., Tensor]
) -> None:
    matrix = random_contraction(4, 0.4)
    good = 1 + torch.rand(2, 4, dtype=F64)
    bad = torch.cat([good, torch.full((1, 4), BAD[formula], dtype=F64)])
    for solver in solvers_for(adjoint):
        answers = []
        for data in (good, bad):
            weight, y = matrix.clone().requires_grad_(), data.clone().requires_grad_()
            x0 = torch.ones_like(data)
            solution = fixed_point(
                lambda x, weight=weight, y=y: formula(x, weight, y),
                x0,
                solver,
                adjoint,
                on_failure="ignore",
            )
            grads = torch.autograd.grad(solution.x.square().sum(), (weight, y))
            answers.append((solution, *grads))
        (clean, clean_weight, clean_y), (other, weight_grad, y_grad) = answers
        assert other.status == (*clean.status, Status.NONFINITE)
        torch.testing.assert_close(other.x[:2], clean.x, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(other.x[2], torch.ones(4, dtype=F64))  # x0
        torch.testing.assert_close(weight_grad, clean_weight, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(y_grad[:2], clean_y, rtol=1e-12, atol=1e-12)
        assert torch.equal(y_grad[2], torch.zeros(4, dtype=F64))


@in_one_test("adjoint", ADJOINTS, ids=str)
def test_sample_that_turns_nonfinite_late_returns_its_last_finite_iterate(
    adjoint: Adjoint,
) -> None:
    """The second sample grows until it reaches the pole of the logarithm at 50."""
    for solver in solvers_for(adjoint):
        if not isinstance(solver, Picard):
            continue
        scale = torch.tensor([[0.5], [3.0]], dtype=F64, requires_grad=True)
        solution = fixed_point(
            lambda x, scale=scale: scale * x + torch.log(50 - x),
            torch.ones(2, 1, dtype=F64),
            solver,
            adjoint,
            on_failure="ignore",
        )
        assert solution.status[1] is Status.NONFINITE
        x, orbit = 1.0, []
        while x < 50:
            orbit.append(x)
            x = 3 * x + float(torch.log(torch.tensor(50 - x, dtype=F64)))
        assert float(solution.x[1].detach()) == pytest.approx(x, rel=1e-12)
        (gradient,) = torch.autograd.grad(solution.x.sum(), scale)
        assert gradient[1] == 0
        assert float(gradient[0]) > 0


def test_nan_stays_in_its_sample_of_a_complex_state() -> None:
    y = torch.tensor([[1 + 1j], [complex("nan")]], dtype=torch.complex128)
    weight = torch.tensor(0.5 + 0.2j, dtype=torch.complex128, requires_grad=True)
    solution = fixed_point(
        lambda x: weight * x * y, torch.ones_like(y), on_failure="ignore"
    )
    assert solution.status == (Status.CONVERGED, Status.NONFINITE)
    (gradient,) = torch.autograd.grad(solution.x.abs().sum(), weight)
    assert gradient.isfinite()


@pytest.mark.parametrize("solver_type", SOLVER_TYPES)
def test_nan_in_x0_ends_its_sample_as_nonfinite(solver_type: Any) -> None:
    x0 = torch.tensor([[1.0], [torch.nan]], dtype=F64)
    with pytest.warns(ConvergenceWarning, match="at least half .* failed"):
        solution = fixed_point(lambda x: x / 2 + 1, x0, solver_type())
    assert solution.status == (Status.CONVERGED, Status.NONFINITE)
    torch.testing.assert_close(solution.x[0], x0.new_tensor([2.0]), rtol=1e-3, atol=0)


@pytest.mark.parametrize("rtol", [1e-4, 0.0])
def test_picard_on_an_expansive_step_ends_as_diverged(rtol: float) -> None:
    solver = Picard(max_iter=30, rtol=rtol)
    with pytest.warns(ConvergenceWarning, match="DIVERGED: The residual"):
        solution = fixed_point(
            lambda x: torch.tensor([[2.0], [0.1]]) * x + 1, torch.zeros(2, 1), solver
        )
    assert solution.status[0] is Status.DIVERGED
    assert not solution.status[1].failed
    assert solution.x.isfinite().all()
    if rtol:  # it stops at a thousand times the first residual
        assert int(solution.iterations[0]) == 11


@pytest.mark.parametrize("solver_type", SOLVER_TYPES)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_overflow_ends_with_a_finite_value(
    solver_type: Any, dtype: torch.dtype
) -> None:
    solver = solver_type(rtol=0, max_iter=60)
    solution = fixed_point(
        lambda x: x**3 + 1,
        torch.full((1, 2), 3.0, dtype=dtype),
        solver,
        on_failure="ignore",
    )
    assert solution.status[0].failed or solver_type is not Picard
    assert solution.x.isfinite().all()
    assert solution.residual.isfinite().all()


@pytest.mark.parametrize("solver_type", [Anderson, Broyden])
def test_accelerated_solver_solves_an_expansive_affine_step(solver_type: Any) -> None:
    solution = fixed_point(
        lambda x: 1.5 * x + 1, torch.zeros(1, 3, dtype=F64), solver_type()
    )
    assert solution.converged.all()
    torch.testing.assert_close(solution.x, torch.full((1, 3), -2.0, dtype=F64))


def _diverging(on_failure: Any) -> Solution:
    return fixed_point(
        lambda x: 2 * x + 1, torch.zeros(1, 1), Picard(), on_failure=on_failure
    )


def test_on_failure_raise_carries_the_solution() -> None:
    with pytest.raises(ConvergenceError, match="fixed-point solve: 1 of 1") as caught:
        _diverging("raise")
    assert isinstance(caught.value.solution, Solution)
    assert caught.value.solution.status == (Status.DIVERGED,)
    assert caught.value.solution.x.isfinite().all()


def _turning(angle: float, samples: int, failing: int) -> Solution:
    """Iterate rotations, which leave the residual as it is, in the first samples."""
    rate = torch.full((samples, 1), 0.1)
    rate[:failing] = 1.0
    c, s = math.cos(angle), math.sin(angle)
    rotation = torch.tensor([[c, -s], [s, c]])
    return fixed_point(
        lambda x: rate * (x @ rotation) + 1,
        torch.zeros(samples, 2),
        Picard(max_iter=40),
    )


def test_stagnating_solve_names_the_cause_and_the_diagnostics() -> None:
    with pytest.warns(ConvergenceWarning, match="residual has stopped falling") as seen:
        solution = _turning(1.0, 2, 1)
    (text,) = [str(warning.message) for warning in seen]
    assert "deq.check_well_posed(model, y, physics)" in text
    assert "deq.estimate_rate(model, y, physics)" in text
    assert "raise max_iter" not in text
    assert "residual has stopped falling" in str(solution)


def test_slow_solve_advises_more_iterations() -> None:
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        fixed_point(lambda x: 0.98 * x + 1, torch.zeros(1, 2), Picard(max_iter=60))


def test_solve_that_reaches_the_rounding_of_its_state_says_so() -> None:
    with pytest.warns(ConvergenceWarning, match="stays at the rounding of float32"):
        solution = fixed_point(
            lambda x: 1 - 1e-6 * torch.sign(x - 1),
            torch.full((1, 2), 2.0),
            Picard(rtol=1e-12, max_iter=60),
        )
    assert solution.status == (Status.MAX_ITER,)


def test_warning_returns_only_when_failures_get_worse() -> None:
    """With Python's default filter, in a loop as of a training."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        counts = []
        for failing in (1, 2, 1, 12, 13, 20, 20):
            _turning(1.0, 20, failing)
            counts.append(len(seen))
    assert counts == [1, 2, 2, 3, 3, 4, 4]
    assert {warning.filename for warning in seen} == {__file__}


def test_warning_of_the_backward_points_at_the_caller() -> None:
    weight = torch.ones(1, requires_grad=True)
    x = fixed_point(
        lambda x: weight * torch.tensor([0.5, 0.1]) * torch.cos(x),
        torch.ones(1, 2),
        adjoint=Implicit(GMRES(max_iter=1)),
    ).x
    assert isinstance(x, Tensor)
    with pytest.warns(ConvergenceWarning, match="adjoint solve") as seen:
        (x * torch.tensor([[1.0, 2.0]]) + 1).sum().backward()
    assert seen[0].filename == __file__


def test_on_failure_ignore_does_not_warn() -> None:
    assert _diverging("ignore").failed_count == 1  # warnings are errors here


def test_on_failure_warn_warns_once() -> None:
    with pytest.warns(ConvergenceWarning) as caught:
        _diverging("warn")
    assert len(caught) == 1


@in_one_test("on_failure", ["error", None, True, "WARN"])
def test_unknown_on_failure_raises(on_failure: Any) -> None:
    with pytest.raises(ValueError, match=f"on_failure must be one of .*{on_failure!r}"):
        _diverging(on_failure)
