from __future__ import annotations

from typing import Any

import pytest
import torch

from deepinv_equilibrium.fixed_points import Picard, Status
from deepinv_equilibrium.fixed_points.solvers.monitor import Monitor

from ...one_test import in_one_test

F64 = torch.float64
INSIDE = torch.ones(1, dtype=torch.bool)


def shown(values: list[tuple[float, float]], keep_best: bool, **kwargs: Any) -> Monitor:
    """Return the record of one sample with one entry, from iterates and values."""
    monitor = Monitor(
        Picard(**kwargs), torch.zeros(1, 1, dtype=F64), keep_best=keep_best
    )
    for x, value in values:
        x_row, value_row = (
            torch.tensor([[number]], dtype=F64) for number in (x, value)
        )
        monitor.observe(x_row, value_row)
    monitor.finish()
    return monitor


def test_relative_residual_divides_by_the_larger_of_value_and_first_residual() -> None:
    report = shown([(0.0, 4.0), (4.0, 5.0), (5.0, 2.0)], False).report()
    assert report.history[:, 0].tolist() == [1.0, 1 / 5, 3 / 4]
    assert report.absolute_history[:, 0].tolist() == [4.0, 1.0, 3.0]


@pytest.mark.parametrize(("keep_best", "value"), [(True, 5.0), (False, 2.0)])
def test_monitor_returns_the_best_or_the_last_value(
    keep_best: bool, value: float
) -> None:
    monitor = shown([(0.0, 4.0), (4.0, 5.0), (5.0, 2.0)], keep_best)
    assert monitor.value.item() == value
    report = monitor.report(extra_evaluations=1)
    assert report.absolute_residual.item() == (1.0 if keep_best else 3.0)
    assert report.iterations.item() == 3
    assert report.evaluations.item() == 4


def test_observe_does_not_change_a_stopped_sample() -> None:
    monitor = Monitor(Picard(), torch.zeros(2, 1, dtype=F64), keep_best=False)
    x = torch.tensor([[1.0], [1.0]], dtype=F64)
    monitor.observe(x, torch.tensor([[1.0], [2.0]], dtype=F64))
    monitor.observe(7 * x, 9 * x)
    assert monitor.value[:, 0].tolist() == [1.0, 9.0]
    monitor.finish()
    report = monitor.report()
    assert report.status == (Status.CONVERGED, Status.MAX_ITER)
    assert report.iterations.tolist() == [1, 2]
    assert report.history.isnan().tolist() == [[False, False], [True, False]]


@in_one_test(
    ("values", "kwargs", "status"),
    [
        ([(0.0, 1.0), (1.0, 1.5)], {}, Status.MAX_ITER),
        ([(0.0, 1.0), (1.0, 1.5)], {"rtol": 0}, Status.COMPLETED),
        ([(0.0, 1.0), (1.0, 11.5)], {}, Status.DIVERGED),
        ([(0.0, 1.0), (1.0, 11.5)], {"rtol": 0}, Status.DIVERGED),
        ([(0.0, 1.0), (1.0, 1002.0), (2.0, 2.0)], {}, Status.DIVERGED),
        ([(0.0, 1.0), (1.0, float("nan"))], {"rtol": 0}, Status.NONFINITE),
        ([(0.0, float("inf"))], {}, Status.NONFINITE),
        ([(0.0, 0.0)], {}, Status.CONVERGED),
        ([(0.0, 0.0)], {"rtol": 0}, Status.COMPLETED),
    ],
)
def test_status_after_finish(values: Any, kwargs: Any, status: Status) -> None:
    monitor = shown(values, False, **kwargs)
    assert monitor.report().status == (status,)
    assert monitor.value.isfinite().all()
    assert bool(monitor.excluded) == (status is Status.NONFINITE)


@pytest.mark.parametrize(
    ("value", "rejected"), [(14.0, False), (16.0, True), (float("nan"), True)]
)
def test_observe_rejects_a_proposal_of_ten_times_the_best_residual(
    value: float, rejected: bool
) -> None:
    monitor = Monitor(
        Picard(), torch.zeros(1, 1, dtype=F64), keep_best=True, growth=10.0
    )
    first = torch.tensor([[1.0]], dtype=F64)
    monitor.observe(torch.zeros(1, 1, dtype=F64), first, proposed=~INSIDE)
    x, bad = (torch.tensor([[number]], dtype=F64) for number in (5.0, value))
    result = monitor.observe(x, bad, proposed=INSIDE)
    assert result is not None
    assert result.tolist() == [rejected]
    assert monitor.active.tolist() == [True]  # only the proposal has failed
    assert monitor.value.item() == 1.0
