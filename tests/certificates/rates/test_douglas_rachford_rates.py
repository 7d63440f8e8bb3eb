"""Rates of Douglas-Rachford splitting and ADMM, compared with dense matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deepinv_equilibrium.certificates.rates import douglas_rachford_rates as rates

from ...one_test import in_one_test
from ..random_jacobians import TRIALS, check, draw, nonexpansive, scaled, symmetric

N = 4
positive = st.floats(1e-3, 1e3)


@pytest.fixture(params=["random", "scalar"])
def problem(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    mu = draw(0, 1) * (torch.rand(TRIALS) < 0.8)
    L = mu + draw(0, 4)
    tau = draw(0, 3)
    eye = torch.eye(N, dtype=torch.float64).expand(TRIALS, N, N)
    if request.param == "scalar":  # the bounds are attained by these denoisers
        hessian = symmetric(mu, L, N)
        D = eye * torch.sign(torch.randn(TRIALS, 1, 1, dtype=torch.float64))
    else:
        hessian, D = symmetric(mu, L, N), nonexpansive(TRIALS, N)
    prox = torch.linalg.inv(eye + scaled(tau, hessian))
    return {"mu": mu, "L": L, "tau": tau, "eye": eye, "D": D, "prox": prox}


def iterations(
    problem: dict[str, Tensor], D: Tensor, beta: Tensor
) -> tuple[Tensor, Tensor]:
    """Return an iteration of Douglas-Rachford splitting in z, and one of ADMM in x + z
    without relaxation."""
    eye, P = problem["eye"], problem["prox"]
    splitting = eye + scaled(beta, D @ (2 * P - eye) - P)
    admm = eye + P @ (2 * D - eye) - D
    return splitting, admm


@pytest.mark.parametrize(
    "rate",
    [
        rates.douglas_rachford,
        rates.douglas_rachford_reflected,
        rates.douglas_rachford_residual,
    ],
)
def test_rates_bound_random_iterations(
    problem: dict[str, Tensor], rate: Callable[..., float]
) -> None:
    beta, scale = draw(0, 2), draw(0, 1.2)
    D = {
        rates.douglas_rachford: scaled(scale, problem["D"]),
        rates.douglas_rachford_reflected: (problem["eye"] + scaled(scale, problem["D"]))
        / 2,
        rates.douglas_rachford_residual: problem["eye"] + scaled(scale, problem["D"]),
    }[rate]
    splitting, admm = iterations(problem, D, beta)
    arguments = problem["mu"], problem["L"], problem["tau"], scale
    # The worst denoisers are multiples of the identity.
    tight = 0.999 if torch.equal(problem["D"][0].abs(), problem["eye"][0]) else 0.0
    check(splitting, rate, *arguments, beta, tight=tight)
    check(admm, rate, *arguments, tight=tight)


def test_reflection_is_attained(problem: dict[str, Tensor]) -> None:
    C = 2 * problem["prox"] - problem["eye"]
    arguments = problem["mu"], problem["L"], problem["tau"]
    check(C, rates.reflection, *arguments, tight=1 - 1e-12)


def test_rates_at_the_best_step_size_have_closed_forms() -> None:
    mu, L, tau = 0.25, 4.0, 1.0
    assert rates.reflection(mu, L, tau) == pytest.approx(0.6, rel=1e-12)
    assert rates.douglas_rachford_reflected(mu, L, tau) == pytest.approx(0.8, rel=1e-12)


@given(m=st.floats(0.01, 10), residual=st.floats(0, 0.9))
def test_residual_rate_for_infinite_curvature_is_theorem_2_of_ryu(
    m: float, residual: float
) -> None:
    """For an infinite L the theorem is the smaller of the two bounds."""
    printed = (1 + residual + residual * m + 2 * residual**2 * m) / (
        1 + m + 2 * residual * m
    )
    rate = rates.douglas_rachford_residual(m, math.inf, 1.0, residual)
    assert rate == pytest.approx(printed, rel=1e-12)


@given(mu=positive, gap=positive, tau=positive, scale=positive, beta=st.floats(0, 2))
def test_rates_are_rounded_up(
    mu: float, gap: float, tau: float, scale: float, beta: float
) -> None:
    L = mu + gap
    m, M, t, d, b = map(Fraction, (mu, L, tau, scale, beta))
    c = max((1 - t * m) / (1 + t * m), (t * M - 1) / (t * M + 1))
    ends = [1 / (1 + t * s) for s in (m, M)]
    theta = (1 + 2 * d * t * m) / (1 + t * m + 2 * d * t * m)
    averaged = (
        abs(1 - b / 2 - b / 2 * (1 + 2 * d) * (1 - theta)) + b / 2 * (1 + 2 * d) * theta
    )
    triangle = max(abs(1 - b * (1 - p)) for p in ends) + b * d * c
    exact = {
        rates.reflection(mu, L, tau): c,
        rates.douglas_rachford(mu, L, tau, scale, beta): max(
            abs(1 - b * p) for p in ends
        )
        + b * d * c,
        rates.douglas_rachford_reflected(mu, L, tau, scale, beta): abs(1 - b / 2)
        + b / 2 * d * c,
        rates.douglas_rachford_residual(mu, L, tau, scale, beta): min(
            triangle, averaged
        ),
    }
    for rounded, truth in exact.items():
        assert truth <= Fraction(rounded) <= truth + (4 + 4 * d) * Fraction(1e-13)


@pytest.mark.parametrize("tau", [0.0, 0.5])
def test_rates_accept_infinite_curvature(tau: float) -> None:
    assert rates.reflection(0.5, math.inf, tau) == pytest.approx(1, rel=1e-12)
    assert rates.douglas_rachford(0.5, math.inf, tau, math.inf) == math.inf


@in_one_test(
    ("arguments", "match"),
    [
        ((-1.0, 1.0, 1.0), "mu"),
        ((2.0, 1.0, 1.0), "mu must be at most L"),
        ((0.0, 1.0, -1.0), "tau"),
        ((0.0, 1.0, 1.0, -1.0), "reflected"),
        ((0.0, 1.0, 1.0, 1.0, -1.0), "beta"),
    ],
)
def test_rates_raise_for_bad_numbers(arguments: tuple[float, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        rates.douglas_rachford_reflected(*arguments)
