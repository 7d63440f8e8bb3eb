"""When the host looks at the residuals of an accelerator."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepinv_equilibrium.fixed_points.solvers.look_schedule import LookSchedule


def looks(ratios: list[float]) -> list[int]:
    """The evaluations after which the host looks at one sample, until it has met its
    tolerance."""
    schedule, found = LookSchedule(), []
    for made, ratio in enumerate(ratios, start=1):
        if schedule.is_due(made):
            found.append(made)
            schedule.plan(made, [ratio], [ratio > 1])
            if ratio <= 1:
                break
    return found


@given(st.lists(st.floats(1e-3, 1e6) | st.just(float("nan")), max_size=120))
def test_the_host_looks_at_most_once_in_four_evaluations_and_once_more(
    ratios: list[float],
) -> None:
    for number, made in enumerate(looks(ratios), start=1):
        assert number <= 1 + made / 4


@pytest.mark.parametrize("rate", [0.3, 0.6, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("first", [1e2, 1e4, 1e6])
def test_a_residual_that_falls_at_a_rate_is_seen_soon_after_it_meets_the_tolerance(
    rate: float, first: float
) -> None:
    ratios = [first * rate**k for k in range(500)]
    met = next(k for k, ratio in enumerate(ratios, start=1) if ratio <= 1)
    last = looks(ratios)[-1]
    assert met <= last <= met + 3


def test_the_slowest_sample_decides() -> None:
    schedule = LookSchedule()
    schedule.plan(2, [10.0, 1e6], [True, True])
    schedule.plan(4, [2.0, 9e5], [True, True])
    assert not schedule.is_due(8)
    schedule = LookSchedule()
    schedule.plan(2, [10.0, 1e6], [True, True])
    schedule.plan(4, [2.0, 0.5], [True, False])
    assert schedule.is_due(8)


def test_it_never_waits_longer_than_sixteen_evaluations() -> None:
    schedule = LookSchedule()
    schedule.plan(2, [1e9], [True])
    schedule.plan(20, [1e9], [True])
    assert not schedule.is_due(35)
    assert schedule.is_due(36)
