from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.fixed_points import (
    Anderson,
    Broyden,
    HasDomain,
    HasOutput,
    Picard,
    StateLayout,
    fixed_point,
)
from deepinv_equilibrium.fixed_points.step import PackedStep

F64 = torch.float64


class Returning:
    """A step with whatever it is given as its output."""

    def __init__(self, output: Any):
        self.output = output

    def __call__(self, state: Any) -> Any:
        return state / 2

    def evaluate(self, state: Any) -> Any:
        return state / 2, self.output


def test_capabilities_are_read_from_the_step(output_problem: Any) -> None:
    step = output_problem.step(*output_problem.parameters)
    assert isinstance(step, HasOutput)
    assert not isinstance(step, HasDomain)
    assert not isinstance(abs, HasDomain | HasOutput)


@pytest.mark.parametrize("solver_type", [Picard, Anderson, Broyden])
def test_the_output_is_that_of_the_evaluation_returned(
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
                observer=lambda x, value: seen.append((x, value)),  # noqa: B023
            )
        tracked = fixed_point(step, output_problem.x0, solver)
        assert torch.equal(tracked.output, solution.output)
        for i in range(3):
            (at,) = [x[i] for x, value in seen if torch.equal(value[i], solution.x[i])][
                :1
            ]
            output = step.evaluate(at.expand(3, -1))[1]
            torch.testing.assert_close(solution.output[i], output[i].detach())


@pytest.mark.parametrize(
    ("output", "error"),
    [
        (torch.ones(3, 2), ValueError),
        (torch.tensor(1.0), ValueError),
        (None, TypeError),
        (2.0, TypeError),
    ],
)
def test_an_output_without_the_batch_axis_is_refused(output: Any, error: Any) -> None:
    with pytest.raises(error, match="output of a step must"):
        fixed_point(Returning(output), torch.ones(2, 1))


def test_packed_step_counts_and_packs() -> None:
    state = (torch.ones(2, 3), torch.ones(2, 1, dtype=torch.complex64))
    layout = StateLayout.of(state)
    step = PackedStep(lambda s: (s[0] + 1, s[1] * 1j), layout)
    value, output = step(layout.pack(state))
    assert output is None
    assert value.tolist() == [[2.0, 2.0, 2.0, 0.0, 1.0]] * 2
    assert step.evaluations == 1


def test_inside_is_finite_and_in_the_domain() -> None:
    class Positive:
        def __call__(self, state: Any) -> Any:
            return state

        def domain(self, state: Any) -> Tensor:
            return (state > 0).all(dim=1)

    x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [1.0, torch.inf], [torch.nan, 1.0]])
    layout = StateLayout.of(x)
    assert PackedStep(Positive(), layout).inside(x).tolist() == [True] + [False] * 3
    assert PackedStep(abs, layout).inside(x).tolist() == [True, True, False, False]
