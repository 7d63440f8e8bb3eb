"""Lipschitz constants of iterations, compared with dense matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deepinv_equilibrium.certificates import rates

from ...one_test import in_one_test
from ..random_jacobians import TRIALS, check, draw, nonexpansive, scaled, symmetric

positive = st.floats(1e-3, 1e3)


@pytest.fixture
def problem() -> dict[str, Tensor]:
    n = 4
    mu = draw(0, 1) * (torch.rand(TRIALS) < 0.8)
    L = mu + draw(0, 3)
    return {
        "mu": mu,
        "L": L,
        "tau": draw(0, 1.2),
        "hessian": symmetric(mu, L, n),
        "D": nonexpansive(TRIALS, n),
        "scale": draw(0, 1.5),
        "weight": draw(0, 2),
        "identity": torch.eye(n, dtype=torch.float64).expand(TRIALS, n, n),
    }


def test_gradient_step_is_attained(problem: dict[str, Tensor]) -> None:
    mu, L, tau = problem["mu"], problem["L"], problem["tau"]
    truth = problem["identity"] - scaled(tau, problem["hessian"])
    check(truth, rates.gradient_step, mu, L, tau, tight=1 - 1e-12)


def test_proximal_gradient_is_attained(problem: dict[str, Tensor]) -> None:
    mu, L, tau, scale = (problem[k] for k in ("mu", "L", "tau", "scale"))
    step = problem["identity"] - scaled(tau, problem["hessian"])
    truth = scaled(scale, problem["D"]) @ step
    check(truth, rates.proximal_gradient, mu, L, tau, scale, tight=1 - 1e-12)


def test_proximal_gradient_bounds_denoisers_near_the_identity(
    problem: dict[str, Tensor],
) -> None:
    mu, L, tau, scale = (problem[k] for k in ("mu", "L", "tau", "scale"))
    step = problem["identity"] - scaled(tau, problem["hessian"])
    truth = (problem["identity"] + scaled(scale, problem["D"])) @ step
    check(truth, rates.proximal_gradient, mu, L, tau, 1 + scale)


def test_gradient_descent_bounds_random_iterations(problem: dict[str, Tensor]) -> None:
    mu, L, tau, scale = (problem[k] for k in ("mu", "L", "tau", "scale"))
    R = scaled(scale, problem["D"])
    truth = problem["identity"] - scaled(tau, problem["hessian"] + R)
    check(truth, rates.gradient_descent, mu, L, tau, scale)


def test_convex_gradient_descent_bounds_random_iterations(
    problem: dict[str, Tensor],
) -> None:
    mu, L, tau = problem["mu"], problem["L"], problem["tau"]
    m = draw(-0.5, 1)
    L_R = m + draw(0, 2)
    R = symmetric(m, L_R, 4)
    truth = problem["identity"] - scaled(tau, problem["hessian"] + R)
    check(truth, rates.convex_gradient_descent, mu, L, tau, m, L_R)


def test_red_bounds_random_iterations(problem: dict[str, Tensor]) -> None:
    mu, L, tau, weight, scale = (
        problem[k] for k in ("mu", "L", "tau", "weight", "scale")
    )
    R = scaled(weight, problem["identity"] - scaled(scale, problem["D"]))
    truth = problem["identity"] - scaled(tau, problem["hessian"] + R)
    check(truth, rates.red, mu, L, tau, weight, scale)


def test_red_firmly_nonexpansive_bounds_random_iterations(
    problem: dict[str, Tensor],
) -> None:
    mu, L, tau, weight = (problem[k] for k in ("mu", "L", "tau", "weight"))
    firm = (problem["identity"] + problem["D"]) / 2
    R = scaled(weight, problem["identity"] - firm)
    truth = problem["identity"] - scaled(tau, problem["hessian"] + R)
    check(truth, rates.red_firmly_nonexpansive, mu, L, tau, weight)


def test_de_grad_bounds_random_iterations(problem: dict[str, Tensor]) -> None:
    mu, L, eta, eps = (problem[k] for k in ("mu", "L", "tau", "scale"))
    S = problem["identity"] + scaled(eps, problem["D"])
    truth = problem["identity"] - scaled(eta, problem["hessian"] + S)
    check(truth, rates.de_grad, mu, L, eta, eps)


def test_half_quadratic_splitting_is_attained(problem: dict[str, Tensor]) -> None:
    mu, tau, scale = (problem[k] for k in ("mu", "tau", "scale"))
    prox = torch.linalg.inv(problem["identity"] + scaled(tau, problem["hessian"]))
    truth = scaled(scale, problem["D"]) @ prox
    check(truth, rates.half_quadratic_splitting, mu, tau, scale, tight=1 - 1e-12)


def test_relaxed_and_block_bound_random_iterations(problem: dict[str, Tensor]) -> None:
    scale, beta = problem["scale"], draw(0, 2)
    T = scaled(scale, problem["D"])
    truth = scaled(1 - beta, problem["identity"]) + scaled(beta, T)
    check(truth, rates.relaxed, scale, beta)
    other = nonexpansive(TRIALS, 4)
    check(
        T @ scaled(beta, other),
        lambda *layers: rates.block(layers),
        scale,
        beta,
        tight=1 - 1e-12,
    )


@in_one_test(
    ("rate", "truth"),
    [
        # In one dimension the worst denoiser is -L_D, and the worst curvature mu.
        (rates.red(0.1, 1.0, 0.5, 0.5, 0.8), 1 - 0.5 * (0.1 + 0.5) + 0.25 * 0.8),
        (rates.gradient_descent(0.5, 1.0, 0.5, 0.3), 1 - 0.25 + 0.15),
        (rates.red_firmly_nonexpansive(0.1, 1.0, 0.5, 0.5), 1 - 0.05),
        (rates.convex_gradient_descent(0.1, 1, 0.5, 0.2, 0.4), 1 - 0.15),
        (rates.de_grad(0.1, 1.0, 0.4, 0.8), 1 - 0.4 * 1.1 + 0.4 * 0.8),
        (rates.relaxed(0.5, 1.5), 0.5 + 0.75),
        (rates.gradient_step(1.0, 3.0, 0.5), 0.5),
    ],
)
def test_tight_rates_are_attained_in_one_dimension(rate: float, truth: float) -> None:
    assert truth <= rate <= truth * (1 + 1e-12)


@given(mu=positive, gap=positive, tau=positive, weight=positive, lipschitz=positive)
def test_rates_are_rounded_up(
    mu: float, gap: float, tau: float, weight: float, lipschitz: float
) -> None:
    L = mu + gap
    m, M, t, w, d = map(Fraction, (mu, L, tau, weight, lipschitz))
    q = max(abs(1 - t * m), abs(1 - t * M))
    shifted = max(abs(1 - t * (m + w)), abs(1 - t * (M + w)))
    exact = {
        rates.gradient_step(mu, L, tau): q,
        rates.proximal_gradient(mu, L, tau, lipschitz): d * q,
        rates.gradient_descent(mu, L, tau, lipschitz): q + t * d,
        rates.convex_gradient_descent(mu, L, tau, weight, weight): shifted,
        rates.red(mu, L, tau, weight, lipschitz): shifted + t * w * d,
        rates.half_quadratic_splitting(mu, tau, lipschitz): d / (1 + t * m),
        rates.relaxed(lipschitz, tau): abs(1 - t) + t * d,
        rates.block([lipschitz] * 9): d**9,
    }
    for rounded, truth in exact.items():
        operands = (1 + t * (M + w)) * (1 + d)
        assert truth <= Fraction(rounded)
        assert Fraction(rounded) <= truth * (1 + Fraction(1e-12)) + operands * Fraction(
            1e-13
        )


def test_block_does_not_underflow_to_0() -> None:
    assert rates.block([1e-200, 1e-200]) > 0


def test_rates_of_infinite_constants_are_infinite() -> None:
    assert rates.gradient_step(0.0, math.inf, 0.5) == math.inf
    assert rates.gradient_step(0.0, math.inf, 0.0) == 1
    assert rates.proximal_gradient(0.0, 1.0, 0.5, math.inf) == math.inf
    assert rates.red(0.0, 1.0, 0.5, 0.0, math.inf) == math.inf
    assert rates.block([0.0, math.inf]) == math.inf


@in_one_test(
    ("call", "match"),
    [
        (lambda: rates.gradient_step(0.0, 1.0, -1.0), "tau"),
        (lambda: rates.gradient_step(0.0, 1.0, math.nan), "tau"),
        (lambda: rates.gradient_step(math.nan, 1.0, 1.0), "mu must be at most L"),
        (lambda: rates.gradient_step(2.0, 1.0, 1.0), "mu must be at most L"),
        (lambda: rates.proximal_gradient(0.0, 1.0, 1.0, -1.0), "lipschitz"),
        (lambda: rates.red(0.0, 1.0, 1.0, -1.0, 1.0), "weight"),
        (lambda: rates.relaxed(0.5, -0.5), "beta"),
        (lambda: rates.half_quadratic_splitting(-1.0, 1.0, 1.0), "mu"),
    ],
)
def test_rates_raise_for_bad_numbers(call: Callable[[], float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()
