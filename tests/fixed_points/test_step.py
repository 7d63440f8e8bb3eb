from __future__ import annotations

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
    HasDomain,
    HasOutput,
    Picard,
    StateLayout,
    Status,
    fixed_point,
)
from deepinv_equilibrium.fixed_points.step import PackedStep

from ..one_test import in_one_test
from .exported_classes import SOLVER_TYPES

F64 = torch.float64


class Returning:
    """A step with a given output."""

    def __init__(self, output: Any):
        self.output = output

    def __call__(self, state: Any) -> Any:
        return state / 2

    def step_and_output(self, state: Any) -> Any:
        return state / 2, self.output


def test_protocols_recognise_a_step_by_its_methods(output_problem: Any) -> None:
    step = output_problem.step(*output_problem.parameters)
    assert isinstance(step, HasOutput)
    assert not isinstance(step, HasDomain)
    assert not isinstance(abs, HasDomain | HasOutput)


@pytest.mark.parametrize("solver_type", SOLVER_TYPES)
def test_output_belongs_to_the_returned_evaluation(
    output_problem: Any, solver_type: Any
) -> None:
    step = output_problem.step(*output_problem.parameters)
    for solver in (solver_type(), solver_type(rtol=0, max_iter=6)):
        seen: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            solution = fixed_point(
                step,
                output_problem.x0,
                solver,
                observer=lambda x, value, seen=seen: seen.append((x, value)),
            )
        tracked = fixed_point(step, output_problem.x0, solver)
        assert torch.equal(tracked.output, solution.output)
        for i in range(3):
            (at,) = [x[i] for x, value in seen if torch.equal(value[i], solution.x[i])][
                :1
            ]
            output = step.step_and_output(at.expand(3, -1))[1]
            torch.testing.assert_close(solution.output[i], output[i].detach())


@in_one_test(
    ("output", "error"),
    [
        (torch.ones(3, 2), ValueError),
        (torch.tensor(1.0), ValueError),
        (None, TypeError),
        (2.0, TypeError),
    ],
)
def test_output_without_a_batch_axis_raises(output: Any, error: Any) -> None:
    with pytest.raises(error, match="output of a step must"):
        fixed_point(Returning(output), torch.ones(2, 1))


def test_packed_step_counts_evaluations_and_packs_values() -> None:
    state = (torch.ones(2, 3), torch.ones(2, 1, dtype=torch.complex64))
    layout = StateLayout.of(state)
    step = PackedStep(lambda s: (s[0] + 1, s[1] * 1j), layout)
    value, output = step(layout.pack(state))
    assert output is None
    assert value.tolist() == [[2.0, 2.0, 2.0, 0.0, 1.0]] * 2
    assert step.evaluations == 1


def test_inside_means_finite_and_in_the_domain() -> None:
    class Positive:
        def __call__(self, state: Any) -> Any:
            return state

        def domain(self, state: Any) -> Tensor:
            return (state > 0).all(dim=1)

    x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [1.0, torch.inf], [torch.nan, 1.0]])
    layout = StateLayout.of(x)
    assert PackedStep(Positive(), layout).inside(x).tolist() == [True] + [False] * 3
    assert PackedStep(abs, layout).inside(x).tolist() == [True, True, False, False]


class Positive:
    """A step like mirror descent, for positive states only, with fixed point 2."""

    def __init__(self) -> None:
        self.outside = 0

    def domain(self, state: Any) -> Tensor:
        return (state > 0).all(dim=1)

    def __call__(self, state: Any) -> Tensor:
        self.outside += int((~self.domain(state)).sum())
        return state * torch.exp(0.9 * (2 - state.mean(1, keepdim=True)) / state)


@pytest.mark.parametrize(
    "solver",
    [
        Picard(),
        Picard(relaxation=1.9),
        Anderson(),
        Anderson(history_size=2, beta=0.8),
        Broyden(),
        Broyden(history_size=3),
    ],
    ids=str,
)
def test_step_is_never_evaluated_outside_its_domain(
    solver: FixedPointSolver,
) -> None:
    torch.manual_seed(1)
    step = Positive()
    x0 = 10 ** (3 * torch.rand(40, 1, dtype=F64) - 1)
    solution = fixed_point(step, x0, solver, on_failure="ignore")
    assert step.outside == 0
    assert bool((solution.x > 0).all())


@dataclass
class Shifted:
    """An affine step whose first fixed point lies outside its domain."""

    def domain(self, state: Any) -> Tensor:
        return (state > 0).all(dim=1)

    def __call__(self, state: Any) -> Tensor:
        return 0.5 * state - torch.tensor([[1.0], [-1.0]], dtype=F64)


@pytest.mark.parametrize("solver_type", SOLVER_TYPES)
def test_plain_step_that_leaves_the_domain_ends_as_diverged(solver_type: Any) -> None:
    x0 = torch.full((2, 2), 4.0, dtype=F64)
    with pytest.warns(ConvergenceWarning, match="DIVERGED: .*domain"):
        solution = fixed_point(Shifted(), x0, solver_type())
    assert solution.status == (Status.DIVERGED, Status.CONVERGED)
    assert bool((solution.x[0] > 0).all())  # the last iterate in the domain
    torch.testing.assert_close(solution.x[1], x0[1] / 2, rtol=1e-3, atol=0)


def test_nonfinite_output_ends_its_sample_only() -> None:
    class OneOverTheFirst(Returning):
        def step_and_output(self, state: Any) -> Any:
            return state / 2 + self.output, self.output / torch.tensor([[0.0], [1.0]])

    y = torch.ones(2, 3, requires_grad=True)
    with pytest.warns(ConvergenceWarning, match="NaN or inf"):
        solution = fixed_point(OneOverTheFirst(y), torch.zeros(2, 3), Picard(rtol=1e-6))
    assert solution.status == (Status.NONFINITE, Status.CONVERGED)
    assert torch.isfinite(solution.output).all()
    solution.output.sum().backward()
    torch.testing.assert_close(y.grad, torch.tensor([[0.0] * 3, [1.0] * 3]))


@pytest.mark.parametrize("solver", [Picard(), Anderson()])
def test_step_that_changes_its_argument_in_place_raises(
    solver: FixedPointSolver,
) -> None:
    def in_place(x: Any) -> Tensor:
        assert isinstance(x, Tensor)
        return x.mul_(0.5).add_(1)

    with torch.no_grad(), pytest.raises(ValueError, match="in place"):
        fixed_point(in_place, torch.zeros(1, 2), solver)
