"""Constants of weakly convex functions, compared with dense matrices."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepinv_equilibrium.certificates import rates

from ..random_jacobians import TRIALS, check, draw, nonexpansive, scaled, symmetric

fractions = st.floats(1e-6, 1 - 1e-6)
positive = st.floats(1e-3, 1e3)


def test_prox_constants_are_attained() -> None:
    m = draw(-0.9, 1)
    L, weight = m + draw(1, 3), draw(0.2, 1)
    eye = torch.eye(4, dtype=torch.float64).expand(TRIALS, 4, 4)
    prox = torch.linalg.inv(eye + scaled(weight, symmetric(m, L, 4)))
    check(prox, rates.prox_lipschitz, m, weight, tight=1 - 1e-9)
    check(2 * prox - eye, rates.prox_reflected, m, L, weight, tight=1 - 1e-9)
    check(prox - eye, rates.prox_residual, m, L, weight, tight=1 - 1e-9)


@given(m=st.floats(-1, 2), gap=positive, weight=fractions)
def test_prox_constants_are_rounded_up(m: float, gap: float, weight: float) -> None:
    L = m + gap
    M, G, w = map(Fraction, (m, L, weight))
    stretch, shrink = 1 / (1 + w * M), 1 / (1 + w * max(G, 0))
    exact = {
        rates.prox_lipschitz(m, weight): stretch,
        rates.prox_reflected(m, L, weight): max(2 * stretch - 1, 1 - 2 * shrink),
        rates.prox_residual(m, L, weight): max(stretch - 1, 1 - shrink),
    }
    for rounded, truth in exact.items():
        assert truth <= Fraction(rounded)
        slack = Fraction(1e-12) * stretch * (1 + stretch)
        assert Fraction(rounded) <= truth + slack


def test_prox_constants_are_infinite_where_the_prox_is_no_function() -> None:
    for weight in (1.0, 2.0):
        assert rates.prox_lipschitz(-1.0, weight) == math.inf
        assert rates.prox_reflected(-1.0, 1.0, weight) == math.inf
        assert rates.prox_residual(-1.0, 1.0, weight) == math.inf
    assert rates.prox_lipschitz(-1.0, 0.0) == 1
    assert rates.prox_reflected(0.0, math.inf, 1.0) == 1
    assert rates.prox_residual(0.0, math.inf, 1.0) == 1
    assert rates.prox_residual(-0.5, math.inf, 0.0) == 0


def reflected_map(T: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Return N of T = (1 - alpha) I + alpha N."""
    eye = torch.eye(T.shape[-1], dtype=T.dtype)
    return eye - scaled(1 / alpha, eye - T)


def test_compositions_are_averaged() -> None:
    a, b = draw(0.01, 0.99), draw(0.01, 0.99)
    eye = torch.eye(3, dtype=torch.float64)
    first, second = (eye - scaled(c, eye - nonexpansive(TRIALS, 3)) for c in (a, b))
    constants = map(rates.averaged_composition, a.tolist(), b.tolist())
    alpha = torch.tensor(list(constants), dtype=torch.float64)
    N = reflected_map(first @ second, alpha)
    assert torch.linalg.matrix_norm(N, 2).max() <= 1 + 1e-9
    assert rates.averaged_composition(1.0, 0.5) == 1
    assert rates.averaged_composition(1.5, 0.5) == math.inf
    assert rates.averaged_composition(0.0, 0.5) == pytest.approx(0.5)


def test_averaged_constants_at_the_ends_of_the_interval() -> None:
    assert rates.averaged_gradient_step(2.0, 0.5) == pytest.approx(0.5)
    assert rates.averaged_composition(0.5, 0.5) == pytest.approx(2 / 3)
    assert rates.averaged_relaxation(1.0, 0.7) == pytest.approx(0.7)


def random_energies() -> tuple[torch.Tensor, ...]:
    m = draw(-1, 1)
    mu = draw(-0.5, 1.5)
    L = mu + draw(0, 3)
    tau = draw(0.01, 0.99) * 2 / (L - m).clamp(min=0.5)
    inside = tau * m > -0.999
    return tuple(value[inside] for value in (mu, L, tau, m))


def test_energy_decreases_by_the_constant() -> None:
    mu, L, tau, m = random_energies()
    eye = torch.eye(4, dtype=torch.float64)
    f, g = symmetric(mu, L, 4), symmetric(m, m + 5, 4)
    x = torch.randn(len(mu), 4, 1, dtype=torch.float64)
    moved = torch.linalg.solve(eye + scaled(tau, g), x - scaled(tau, f) @ x)

    def energy(z: torch.Tensor) -> torch.Tensor:
        return (z.mT @ (f + g) @ z).flatten() / 2

    numbers = zip(*map(torch.Tensor.tolist, (L, tau, m)), strict=True)
    delta = torch.tensor([rates.decrease(*values) for values in numbers])
    residual = (moved - x).square().sum((1, 2))
    size = energy(x).abs() + (moved.mT @ moved + x.mT @ x).flatten() * 10
    assert ((energy(x) - energy(moved)) - delta * residual >= -1e-12 * size).all()
    assert (delta > 0).sum() > 100


@given(mu=st.floats(0, 1), gap=st.floats(0.1, 2), part=st.floats(0.1, 1.9))
def test_decrease_is_attained_by_gradient_descent(
    mu: float, gap: float, part: float
) -> None:
    """The decrease of L x^2 / 2 is tau (1 - tau L / 2) (L x)^2."""
    L = mu + gap
    tau = part / L
    delta = rates.decrease(L, tau)
    residual = (tau * L) ** 2
    assert delta * residual == pytest.approx(L / 2 * (1 - (1 - tau * L) ** 2), abs=1e-9)


@given(L=st.floats(1e-3, 1e3), part=st.floats(0.01, 1.99), m=st.floats(-1e-3, 1e2))
def test_decrease_is_rounded_downwards(L: float, part: float, m: float) -> None:
    tau = part / max(L - m, 1e-3)
    found = rates.decrease(L, tau, m)
    exact = 1 / Fraction(tau) - (Fraction(L) - Fraction(m)) / 2
    assert found <= max(exact, 0)
    if exact > 0 and tau * m > -0.999:
        allowed = 2.0**-48 * (1 / tau + L + abs(m))
        assert found >= exact - Fraction(allowed)


def test_value_bounds_hold_for_random_convex_energies() -> None:
    mu, L, tau, m = random_energies()
    convex = (mu + m > 1e-3) & (mu + m.clamp(max=0) >= 0)
    mu, L, tau, m = (value[convex] for value in (mu, L, tau, m))
    eye = torch.eye(4, dtype=torch.float64)
    f, g = symmetric(mu, L, 4), symmetric(m, m + 5, 4)
    start = torch.randn(len(mu), 4, 1, dtype=torch.float64)

    def values(prox: bool) -> None:
        H = f + (g if prox else 0 * g)
        x, distance = start, start.square().sum((1, 2))
        lower = mu if prox else mu.clamp(min=0)
        numbers = list(zip(*map(torch.Tensor.tolist, (lower, L, tau, m)), strict=True))
        after = torch.tensor(
            [rates.value_after_steps(*v[:3], v[3] if prox else None) for v in numbers]
        )
        of_residual = torch.tensor(
            [rates.value_of_residual(*v[:3], v[3] if prox else 0.0) for v in numbers]
        )
        for k in range(1, 6):
            moved = x - scaled(tau, f) @ x
            if prox:
                moved = torch.linalg.solve(eye + scaled(tau, g), moved)
            value = (moved.mT @ H @ moved).flatten() / 2
            usable = (mu >= 0) & (tau * L < 2) | torch.tensor(prox)
            assert (value - after / k * distance)[usable].max() <= 1e-12
            residual = (moved - x).square().sum((1, 2))
            excess = value - of_residual * residual
            assert excess[usable].max() <= 1e-9
            x = moved

    values(prox=True)
    values(prox=False)


def test_no_decrease_is_claimed_outside_the_interval() -> None:
    assert rates.decrease(1.0, 2.0) == 0
    assert rates.decrease(1.0, 0.0) == 0
    assert rates.decrease(math.inf, 0.1) == 0
    assert rates.decrease(0.5, 1.0, -1.0) == 0
    assert rates.value_after_steps(-0.1, 1.0, 0.5) == math.inf
    assert rates.value_of_residual(0.1, 1.0, 0.5, -0.1) == math.inf
    assert rates.block_decrease([1.0, 0.0]) == 0
    assert rates.block_decrease([1.0, 1.0]) == pytest.approx(0.5)
