from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from deepinv_equilibrium.certificates.rates.data_sensitivity import (
    fixed_point_sensitivity,
    prox_sensitivity,
)

positive = st.floats(1e-3, 1e3)


@given(
    norm=positive, tau=positive, precision=positive, kappa=st.floats(0, 10), n=positive
)
def test_prox_sensitivity_is_the_largest_gain(
    norm: float, tau: float, precision: float, kappa: float, n: float
) -> None:
    """Compare with the largest gain over singular values a up to the norm."""
    a = norm * torch.linspace(0, 1, 50, dtype=torch.float64)
    best = math.sqrt((1 + tau * kappa) / (tau * precision))  # the gain is largest here
    a = torch.cat([a, torch.tensor([min(best, norm)], dtype=torch.float64)])
    gain = tau * precision * a / (1 + tau * kappa + tau * precision * a**2)
    bound = prox_sensitivity(norm**2, tau, precision, kappa)
    assert gain.max() <= bound <= gain.max() * (1 + 1e-9)


def test_fixed_point_sensitivity_is_attained_by_positive_scalars() -> None:
    rates, gains = [0.5, 0.9, 1.1], [1.0, 2.0, 0.25]
    x = 0.0
    for _ in range(300):
        for rate, gain in zip(rates, gains, strict=True):
            x = rate * x + gain
    bound = fixed_point_sensitivity(rates, gains)
    assert x * (1 - 1e-12) <= bound <= x * (1 + 1e-9)


def test_fixed_point_sensitivity_is_infinite_without_a_contraction() -> None:
    assert fixed_point_sensitivity([1.0], [0.5]) == math.inf
    assert fixed_point_sensitivity([0.5, 2.1], [0.5, 0.1]) == math.inf
    assert fixed_point_sensitivity([math.inf], [0.5]) == math.inf
