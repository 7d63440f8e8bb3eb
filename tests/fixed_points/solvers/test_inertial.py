"""Inertia with restarts."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq

F64 = torch.float64


def quadratic(condition: float) -> tuple[object, Tensor]:
    """A gradient step on a convex quadratic function, and its minimiser."""
    torch.manual_seed(0)
    curvatures = torch.logspace(0, -torch.log10(torch.tensor(condition)).item(), 30)
    curvatures = curvatures.to(F64)
    b = torch.randn(2, 30, dtype=F64)
    return (lambda x: x - (curvatures * x - b)), b / curvatures


def test_the_iterates_are_those_of_the_equation() -> None:
    step, _ = quadratic(50.0)
    seen = []
    deq.fixed_point(
        step,
        torch.zeros(2, 30, dtype=F64),
        deq.Inertial(max_iter=12, rtol=0),
        observer=lambda x, value: seen.append((x, value)),
    )
    t, last, previous = 1.0, None, None
    for (x, value), (found, _) in pairwise(seen):
        residual = (value - x).norm()
        assert previous is None or residual <= previous  # no restart so far
        following = (1 + (1 + 4 * t**2) ** 0.5) / 2
        expected = value
        if last is not None:
            expected = value + (t - 1) / following * (value - last)
        torch.testing.assert_close(found, expected)
        t, last, previous = following, value, residual


def test_iterations_grow_with_the_root_of_the_condition_number() -> None:
    counts = []
    for condition in (100.0, 10000.0):
        step, minimiser = quadratic(condition)
        solver = deq.Inertial(rtol=1e-9, max_iter=20000)
        found = deq.fixed_point(step, torch.zeros_like(minimiser), solver)
        torch.testing.assert_close(found.x, minimiser, rtol=1e-3, atol=1e-3)
        counts.append(int(found.iterations.max()))
    assert counts[1] <= 13 * counts[0]  # and not 100 times as many


def test_a_sample_restarts_at_the_best_iterate_where_its_residual_grows() -> None:
    step, minimiser = quadratic(1000.0)
    seen = []
    deq.fixed_point(
        step,
        torch.zeros_like(minimiser),
        deq.Inertial(rtol=1e-8, max_iter=5000),
        observer=lambda x, value: seen.append((x[0], value[0])),
    )
    best, restarts = seen[0], 0
    for (x, value), (following, _) in pairwise(seen[1:]):
        if (value - x).norm() <= (best[1] - best[0]).norm():
            best = x, value
        else:
            restarts += 1
            assert torch.equal(following, best[1])
    assert restarts > 0


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_it_converges_where_the_step_is_no_gradient(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    rotation, _ = torch.linalg.qr(torch.randn(20, 20, dtype=dtype))
    b = torch.randn(3, 20, dtype=dtype)
    solution = deq.fixed_point(
        lambda x: 0.8 * x @ rotation + b, torch.zeros_like(b), deq.Inertial(rtol=1e-5)
    )
    expected = torch.linalg.solve(torch.eye(20, dtype=dtype) - 0.8 * rotation.T, b.T).T
    torch.testing.assert_close(solution.x, expected, rtol=1e-3, atol=1e-3)


def test_a_certified_rate_safeguards_it() -> None:
    torch.manual_seed(0)
    rotation, _ = torch.linalg.qr(torch.randn(20, 20, dtype=F64))
    b = torch.randn(3, 20, dtype=F64)
    solver = deq.Safeguarded(deq.Inertial(), rate=0.9, rtol=1e-8, max_iter=1000)
    solution = deq.fixed_point(
        lambda x: 0.9 * x @ rotation + b, torch.zeros_like(b), solver
    )
    assert solution.evaluations.max() <= solver.evaluations_to(1e-8)
