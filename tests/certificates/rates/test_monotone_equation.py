from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepinv_equilibrium.certificates import (
    Bound,
    Interval,
    Kind,
    monotone_stability,
    parameter_choice,
    source_condition_distance,
    source_condition_error,
)

from ...one_test import in_one_test

SIZE = 6
positive = st.floats(1e-3, 10.0)


def lower(value: float, kind: Kind = Kind.CERTIFIED) -> Bound:
    return Bound(value, kind, is_lower=True)


class Problem:
    """A matrix and a strongly monotone nonlinear map that is not a gradient."""

    def __init__(self, seed: int, scale: float, kappa: float) -> None:
        rng = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=rng, dtype=torch.float64)

        self.A = scale * normal(SIZE, SIZE) / SIZE**0.5
        W = normal(SIZE, SIZE)
        self.W = (1 - kappa) * W / torch.linalg.matrix_norm(W, 2)
        self.V = torch.linalg.qr(normal(SIZE, SIZE))[0]
        self.normal = normal
        self.kappa = kappa
        values = torch.linalg.svdvals(self.A) ** 2
        self.spectrum = Interval(lower(values.min()), Bound(values.max()))

    def monotone(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.W @ torch.tanh(self.V @ x)

    def solve(self, y: torch.Tensor, alpha: float) -> torch.Tensor:
        system = self.A.T @ self.A + alpha * torch.eye(SIZE, dtype=torch.float64)
        x = torch.zeros_like(y)
        for _ in range(10_000):
            new = torch.linalg.solve(
                system, self.A.T @ y + alpha * (x - self.monotone(x))
            )
            if (new - x).norm() <= 1e-15 * (1 + new.norm()):
                return new
            x = new
        return x

    def solution_of_the_source_condition(self, w: torch.Tensor) -> torch.Tensor:
        x = torch.zeros_like(w)
        for _ in range(10_000):
            new = self.A.T @ w + x - self.monotone(x)
            if (new - x).norm() <= 1e-15 * (1 + new.norm()):
                return new
            x = new
        return x


@given(st.integers(0, 10**6), st.floats(0.05, 5), st.floats(0.05, 0.95), positive)
def test_monotone_stability_bounds_the_change_of_solutions(
    seed: int, scale: float, kappa: float, alpha: float
) -> None:
    problem = Problem(seed, scale, kappa)
    bound = monotone_stability(problem.spectrum, alpha, lower(kappa))
    assert bound.is_certified
    assert bound.value <= 1 / (2 * math.sqrt(alpha * kappa)) * (1 + 1e-9)
    y = problem.normal(SIZE)
    e = problem.normal(SIZE) * 10 ** (seed % 4 - 2)
    moved = (problem.solve(y + e, alpha) - problem.solve(y, alpha)).norm()
    assert moved <= bound.value * e.norm() * (1 + 1e-6) + 1e-12


@in_one_test(("mu", "L"), [(0.0, 4.0), (0.5, 4.0), (0.0, 0.01), (0.01, 0.01)])
def test_monotone_stability_is_attained_by_a_linear_problem(
    mu: float, L: float
) -> None:
    # For G = kappa I and A = sqrt(s) I: x = sqrt(s) y / (s + alpha kappa).
    alpha, kappa = 0.5, 0.2
    s = torch.linspace(mu, L, 100_001, dtype=torch.float64)
    worst = (s.sqrt() / (s + alpha * kappa)).max().item()
    bound = monotone_stability(Interval(lower(mu), Bound(L)), alpha, lower(kappa))
    assert worst <= bound.value
    assert bound.value == pytest.approx(worst, rel=1e-6)


def test_monotone_stability_prefers_a_certified_bound() -> None:
    estimated = Interval(lower(1.0, Kind.ESTIMATED), Bound(2.0))
    assert monotone_stability(estimated, 0.1, lower(0.1)).is_certified
    bound = monotone_stability(estimated, 0.1, lower(0.0))
    assert bound.kind is Kind.ESTIMATED
    assert bound.value == pytest.approx(1)
    nothing = Interval(lower(0.0), Bound(2.0))
    assert monotone_stability(nothing, 0.1, lower(0.0)).is_vacuous


@given(
    st.integers(0, 10**6),
    st.floats(0.1, 2),
    st.floats(0.2, 0.9),
    positive,
    st.floats(0, 3),
)
def test_source_condition_bounds_hold_for_random_problems(
    seed: int, scale: float, kappa: float, alpha: float, noise_level: float
) -> None:
    problem = Problem(seed, scale, kappa)
    w, e = problem.normal(SIZE), problem.normal(SIZE)
    truth = problem.solution_of_the_source_condition(w)
    y = problem.A @ truth + noise_level * e / e.norm()
    d = problem.solve(y, alpha) - truth
    distance = torch.dot(problem.monotone(truth + d) - problem.monotone(truth), d)
    norm = float(w.norm())
    slack = 1e-9 * (1 + norm) ** 2
    bound = source_condition_distance(noise_level, norm, alpha)
    assert bound.is_certified
    assert distance <= bound.value + slack
    error = source_condition_error(noise_level, norm, alpha, lower(kappa))
    assert d.norm() <= error.value + slack


def test_source_condition_distance_is_attained() -> None:
    # For G = I and A = sqrt(alpha) I: d = sqrt(alpha) (e - alpha w) / (2 alpha).
    alpha, noise_level, source_norm = 0.3, 0.2, 1.5
    d = math.sqrt(alpha) * (noise_level + alpha * source_norm) / (2 * alpha)
    bound = source_condition_distance(noise_level, source_norm, alpha)
    assert bound.value == pytest.approx(d**2, rel=1e-9)


def test_parameter_choice_minimises_the_bound() -> None:
    delta, norm = 0.01, 2.0
    alpha = parameter_choice(delta, norm)
    best = source_condition_distance(delta, norm, alpha).value
    assert best == pytest.approx(delta * norm, rel=1e-9)
    for factor in (0.5, 0.99, 1.01, 2.0):
        assert source_condition_distance(delta, norm, factor * alpha).value > best


def test_source_condition_distance_stays_large_for_squared_noise() -> None:
    for delta in (1e-1, 1e-3, 1e-6):
        assert source_condition_distance(delta, 1.0, delta**2).value >= 0.25


@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_functions_raise_for_numbers_out_of_range(value: float) -> None:
    with pytest.raises(ValueError, match="noise_level must be in"):
        source_condition_distance(value, 1.0, 1.0)
    with pytest.raises(ValueError, match="alpha must be in"):
        source_condition_error(1.0, 1.0, value, lower(0.5))
    with pytest.raises(ValueError, match="source_norm must be in"):
        parameter_choice(1.0, value)
