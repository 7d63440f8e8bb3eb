from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.fixed_points import (
    Implicit,
    JacobianFree,
    LowRankInverse,
    Neumann,
    Picard,
    Solution,
    Status,
    Unrolled,
    fixed_point,
)

from ..one_test import in_one_test

F64 = torch.float64


@in_one_test("status", list(Status))
def test_status_has_a_sentence_and_a_failure_a_remedy(status: Status) -> None:
    assert status.sentence.endswith(".")
    assert status.failed == (
        status in {Status.MAX_ITER, Status.DIVERGED, Status.NONFINITE, Status.REFUTED}
    )
    remedies = (
        "raise max_iter",
        "Reduce the step size",
        "Check the input",
        "Certify it again",
    )
    assert any(remedy in status.sentence for remedy in remedies) == status.failed


def test_sentences_of_statuses_differ() -> None:
    assert len({status.sentence for status in Status}) == len(Status)


@pytest.fixture
def mixed() -> Solution:
    """Return a solution whose four samples have four different statuses."""
    rate = torch.tensor([[0.1], [0.99], [4.0], [0.5]], dtype=F64)
    y = torch.tensor([[1.0], [1.0], [1.0], [torch.nan]], dtype=F64)
    return fixed_point(
        lambda x: rate * x + y,
        torch.zeros(4, 1, dtype=F64),
        Picard(max_iter=12),
        on_failure="ignore",
    )


def test_fields_have_one_value_per_sample(mixed: Solution) -> None:
    assert mixed.status == (
        Status.CONVERGED,
        Status.MAX_ITER,
        Status.DIVERGED,
        Status.NONFINITE,
    )
    assert mixed.converged.tolist() == [True, False, False, False]
    assert mixed.converged.dtype == torch.bool
    assert mixed.failed_count == 3
    for field in (mixed.residual, mixed.absolute_residual, mixed.iterations):
        assert field.shape == (4,)
    assert mixed.iterations[3] == 1
    assert mixed.history.shape == mixed.absolute_history.shape == (12, 4)


def test_str_shows_every_sample_and_the_remedies(mixed: Solution) -> None:
    text = str(mixed)
    head, names, *lines = text.splitlines()
    assert head == ("1 CONVERGED, 1 MAX_ITER, 1 DIVERGED, 1 NONFINITE (of 4 samples)")
    assert names.split() == [
        "sample",
        "status",
        "residual",
        "absolute",
        "iterations",
        "evaluations",
    ]
    for i, line in enumerate(lines[:4]):
        sample, status, residual, absolute, iterations, evaluations = line.split()
        assert int(sample) == i
        assert status == mixed.status[i].name
        assert float(residual) == pytest.approx(float(mixed.residual[i]), rel=1e-2)
        assert float(absolute) == pytest.approx(
            float(mixed.absolute_residual[i]), rel=1e-2
        )
        assert int(iterations) == mixed.iterations[i]
        assert int(evaluations) == mixed.evaluations[i]
    assert lines[4:] == [
        f"{status.name}: {status.sentence}"
        for status in (Status.MAX_ITER, Status.DIVERGED, Status.NONFINITE)
    ]


def _solved(adjoint: Any) -> tuple[Solution, Tensor]:
    y = torch.ones(2, 1, dtype=F64, requires_grad=True)
    solver = Picard()
    return (
        fixed_point(
            lambda x: 0.5 * torch.cos(x) + y, torch.zeros_like(y), solver, adjoint
        ),
        y,
    )


@pytest.mark.parametrize("adjoint", [Implicit(), Neumann()], ids=str)
def test_backward_report_exists_after_the_backward(adjoint: Any) -> None:
    solution, _ = _solved(adjoint)
    detached = solution.detach()
    assert solution.backward is None
    assert "backward" not in str(solution)
    solution.x.sum().backward()
    assert solution.backward is not None
    assert solution.backward.failed_count == 0
    assert detached.backward is solution.backward
    assert "\nbackward: 2 C" in str(solution)


@pytest.mark.parametrize("adjoint", [JacobianFree(), Unrolled()], ids=str)
def test_backward_report_is_none_if_no_system_is_solved(adjoint: Any) -> None:
    solution, _ = _solved(adjoint)
    solution.x.sum().backward()
    assert solution.backward is None


def test_detach_keeps_the_values_without_the_graph(output_problem: Any) -> None:
    step = output_problem.step(*output_problem.parameters)
    solution = fixed_point(step, output_problem.x0)
    assert solution.x.requires_grad
    assert solution.output.requires_grad
    detached = solution.detach()
    assert not detached.x.requires_grad
    assert not detached.output.requires_grad
    assert torch.equal(detached.x, solution.x)
    assert detached.status == solution.status
    pair = fixed_point(
        lambda s: (s[0] / 2 + output_problem.parameters[1], s[1] / 3),
        (torch.zeros(1, 2).double(), torch.ones(1, 1).double()),
    ).detach()
    assert isinstance(pair.x, tuple)
    assert not any(component.requires_grad for component in pair.x)


def test_reports_hold_no_graph() -> None:
    for adjoint in (Unrolled(), Implicit()):
        solution, _ = _solved(adjoint)
        for field in (
            solution.residual,
            solution.absolute_residual,
            solution.history,
            solution.absolute_history,
        ):
            assert not field.requires_grad


def test_low_rank_inverse_equals_the_dense_matrix() -> None:
    u, v = torch.randn(2, 3, 2, 4, dtype=F64)
    inverse = LowRankInverse(u, v)
    matrix = torch.eye(4, dtype=F64) - u.mT @ v
    x = torch.randn(3, 4, dtype=F64)
    torch.testing.assert_close(inverse.apply(x), (matrix @ x[..., None])[..., 0])
    torch.testing.assert_close(inverse.adjoint(x), (matrix.mT @ x[..., None])[..., 0])
