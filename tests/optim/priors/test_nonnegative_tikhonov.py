from __future__ import annotations

import math

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import deepinv_equilibrium as deq
from deepinv_equilibrium.optim import NonNegativeTikhonov
from deepinv_equilibrium.optim.contraction.prior_constants import (
    ProxConstants,
)

from ...dense_jacobian import dense_jacobian


def test_fn_is_half_the_squared_norm_of_nonnegative_images() -> None:
    x = torch.tensor([[3.0, 4.0], [1.0, -1.0]], dtype=torch.float64)
    assert NonNegativeTikhonov()(x).tolist() == [12.5, math.inf]


@given(st.floats(-5, 5), st.floats(0.01, 10))
def test_prox_is_the_minimiser(v: float, gamma: float) -> None:
    x = torch.tensor([[v]], dtype=torch.float64)
    p = NonNegativeTikhonov().prox(x, gamma=gamma)
    grid = torch.linspace(0, 6, 2001, dtype=torch.float64)[:, None]

    def energy(t: torch.Tensor) -> torch.Tensor:
        return (t - v).square().sum(dim=1) / 2 + gamma * t.square().sum(dim=1) / 2

    assert p >= 0
    assert energy(p) <= energy(grid).min() + 1e-12


def test_prox_accepts_a_step_size_for_each_sample() -> None:
    x = torch.full((2, 1, 1, 3), 6.0)
    p = NonNegativeTikhonov().prox(x, gamma=torch.tensor([1.0, 2.0]))
    assert p[0].unique().tolist() == [3]
    assert p[1].unique().tolist() == [2]


@given(
    st.floats(-5, 5), st.floats(-5, 5).filter(lambda v: abs(v) > 0.1), st.floats(0, 3)
)
def test_constants_bound_the_prox(v: float, change: float, weight: float) -> None:
    known = ProxConstants.of(NonNegativeTikhonov(), weight, (1, 1, 1))
    x = torch.tensor([[v], [v + change]], dtype=torch.float64)
    p = NonNegativeTikhonov().prox(x, gamma=weight)
    dx, dp = abs(change), p[1] - p[0]
    assert abs(dp) <= known.lipschitz.value * dx + 1e-12
    assert abs(2 * dp - change) <= known.reflected.value * dx + 1e-12
    assert abs(dp - change) <= known.residual.value * dx + 1e-12
    assert known.lipschitz.value == pytest.approx(1 / (1 + weight))


def test_rate_is_certified_for_an_operator_with_a_null_space() -> None:
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=NonNegativeTikhonov(),
        lambda_reg=0.5,
        stepsize=1.0,
        trainable_params=["lambda_reg"],
        DEQ=deq.Equilibrium(),
    )
    physics = dinv.physics.Inpainting((1, 2, 2), mask=torch.eye(2)[None])
    rate = deq.certify(model, physics, (1, 2, 2)).rate
    assert rate.is_certified
    assert rate.value == pytest.approx(2 / 3, rel=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.05, 2.5), st.floats(0.01, 3))
def test_rate_and_stability_bound_the_dense_truth(
    seed: int, stepsize: float, weight: float
) -> None:
    rng = torch.Generator().manual_seed(seed)
    size = (1, 3, 4)
    mask = torch.rand(size, generator=rng, dtype=torch.float64)
    physics = dinv.physics.Inpainting(size, mask=mask * (mask > 0.3))
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=NonNegativeTikhonov(),
        lambda_reg=weight,
        stepsize=stepsize,
        trainable_params=[],
        DEQ=deq.Equilibrium(deq.Picard(max_iter=3000, rtol=1e-13), on_failure="ignore"),
    )
    certificate = deq.certify(model, physics, size)
    assert certificate.rate.is_certified
    x, y, e = torch.randn(3, 1, *size, generator=rng, dtype=torch.float64)
    step, _ = model.fixed_point_problem(y, physics)
    norm = torch.linalg.matrix_norm(dense_jacobian(step, x), 2)
    assert norm <= certificate.rate.value + 1e-12
    if certificate.contracts:
        assert certificate.stability.is_certified
        with torch.no_grad():
            first, second = model(torch.cat([y + e, y]), physics)
        moved = (first - second).norm()
        assert moved <= certificate.stability.value * e.norm() + 1e-9


def test_registry_creates_the_prior() -> None:
    prior = deq.plugins.create("priors", "nonnegative-tikhonov")
    assert type(prior) is NonNegativeTikhonov
