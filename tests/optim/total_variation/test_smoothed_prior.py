"""Smoothed total variation: value, gradient and proximal operator."""

from __future__ import annotations

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import deepinv_equilibrium as deq
from deepinv_equilibrium.optim import SmoothedTVPrior, WeightedTVPrior
from deepinv_equilibrium.optim.total_variation import differences
from deepinv_equilibrium.optim.total_variation.tv_groups import TV_NORMS, TVNorm

from ...dense_jacobian import dense_jacobian
from ...one_test import in_one_test

DOUBLE = torch.float64


def step_image(height: float) -> torch.Tensor:
    """Return an image of 2 x 4 pixels with two constant halves."""
    x = torch.zeros(1, 1, 2, 4, dtype=DOUBLE)
    x[..., 2:] = height
    return x


@pytest.mark.parametrize("norm", TV_NORMS)
def test_fn_is_quadratic_for_small_and_linear_for_large_differences(
    norm: TVNorm,
) -> None:
    prior = SmoothedTVPrior(0.1, norm)
    assert prior.norm == norm
    assert prior(step_image(0.05)).item() == pytest.approx(2 * 0.05**2 / 0.2)
    assert prior(step_image(3.0)).item() == pytest.approx(2 * (3.0 - 0.05))


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    smoothing=st.floats(1e-3, 10),
    norm=st.sampled_from(TV_NORMS),
)
def test_fn_is_within_half_the_smoothing_of_total_variation(
    seed: int, smoothing: float, norm: TVNorm
) -> None:
    x = torch.randn(
        2, 2, 3, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed)
    )
    exact, smooth = WeightedTVPrior(norm)(x), SmoothedTVPrior(smoothing, norm)(x)
    terms = (2 if norm == "componentwise" else 1) * x[0].numel()
    assert (smooth <= exact + 1e-12).all()
    assert (exact - smooth <= terms * smoothing / 2 + 1e-12).all()


@in_one_test("shape", [(2, 3, 3, 4), (1, 1, 2, 3, 3)])
@in_one_test("norm", TV_NORMS)
def test_grad_agrees_with_finite_differences(
    shape: tuple[int, ...], norm: TVNorm
) -> None:
    prior = SmoothedTVPrior(0.3, norm)
    x = torch.randn(shape, dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(prior.fn, x, fast_mode=True)
    (expected,) = torch.autograd.grad(prior.fn(x).sum(), x)
    torch.testing.assert_close(prior.grad(x), expected)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    smoothing=st.floats(1e-2, 10),
    norm=st.sampled_from(TV_NORMS),
    scale=st.sampled_from([1e-3, 1.0]),
)
def test_gradient_bounds_hold(
    seed: int, smoothing: float, norm: TVNorm, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(1, 1, 3, 5, dtype=DOUBLE, generator=generator)
    prior = SmoothedTVPrior(smoothing, norm)
    bounds = prior.gradient_bounds((1, 3, 5))
    curvatures = torch.linalg.eigvalsh(dense_jacobian(prior.grad, x))
    assert curvatures[0] >= -1e-12 / smoothing
    assert curvatures[-1] <= bounds.upper.value
    assert bounds.upper.value <= 8 / smoothing
    if scale < smoothing / 10:  # the prior is quadratic there, and attains the bound
        assert curvatures[-1] >= (1 - 1e-6) * bounds.upper.value


@pytest.mark.parametrize("norm", TV_NORMS)
def test_prox_solves_its_optimality_condition(norm: TVNorm) -> None:
    """z + gamma grad(z) = x, with a gamma for every image."""
    prior = SmoothedTVPrior(0.05, norm)
    x, gamma = torch.rand(2, 3, 6, 5, dtype=DOUBLE), torch.tensor([0.02, 0.3])
    z = prior.prox(x, gamma=gamma)
    pull = gamma.to(DOUBLE)[:, None, None, None] * prior.grad(z)
    torch.testing.assert_close(z + pull, x, rtol=0, atol=1e-8)
    assert (differences(z).abs().amax() < differences(x).abs().amax()).item()
    assert torch.equal(prior.prox(x, gamma=0.0), x)


def test_prox_has_the_gradient_of_finite_differences() -> None:
    prior = SmoothedTVPrior(0.3)
    x = torch.randn(2, 1, 3, 3, dtype=DOUBLE, requires_grad=True)
    gamma = torch.tensor(0.4, dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, gamma: prior.prox(x, gamma=gamma),
        (x, gamma),
        eps=1e-5,
        atol=1e-5,
        fast_mode=True,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_are_independent_and_keep_their_dtype(dtype: torch.dtype) -> None:
    prior, x = SmoothedTVPrior(0.05), torch.rand(3, 3, 5, 6, dtype=dtype)
    together = prior.prox(x, gamma=0.1)
    alone = torch.cat([prior.prox(sample[None], gamma=0.1) for sample in x])
    assert together.dtype == dtype
    atol = 1e-5 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(together, alone, rtol=0, atol=atol)


def test_rate_of_gradient_descent_is_certified() -> None:
    """mu = L = 1, and the prior adds a curvature of lambda |D|^2 / eps."""
    prior = deq.plugins.create("priors", "smoothed-tv", smoothing=0.5)
    model = deq.optim.GD(
        data_fidelity=dinv.optim.L2(),
        prior=prior,
        lambda_reg=0.1,
        stepsize=0.5,
        DEQ=deq.Equilibrium(),
    )
    certificate = deq.certify(model, dinv.physics.Denoising(), (1, 8, 8))
    curvature = 1 + 0.1 * prior.gradient_bounds((1, 8, 8)).upper.value
    expected = max(1 - 0.5, abs(1 - 0.5 * curvature))
    assert certificate.rate.value == pytest.approx(expected, rel=1e-9)
    assert certificate.rate.is_certified


def test_constructor_and_methods_refuse_bad_input() -> None:
    for smoothing in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="smoothing must be positive and finite"):
            SmoothedTVPrior(smoothing)
    with pytest.raises(TypeError, match="smoothing must be a number, got 'a'"):
        SmoothedTVPrior("a")
    with pytest.raises(ValueError, match="norm must be one of"):
        SmoothedTVPrior(0.1, "nuclear")
    prior = SmoothedTVPrior(0.1)
    with pytest.raises(ValueError, match="gamma must be nonnegative and finite"):
        prior.prox(torch.rand(1, 1, 4, 4), gamma=-1.0)
    with pytest.raises(ValueError, match=r"x must have shape \(B, C, H, W\)"):
        prior.prox(torch.rand(4, 4))
