from __future__ import annotations

import math
from types import ModuleType

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.optim import WeightedTVPrior
from deepinv_equilibrium.optim.total_variation import TVNorm, weighted_tv_prox

from ...one_test import in_one_test
from .dense_tv import dense_prox
from .weightings import (
    NORMS,
    PLANE,
    VOLUME,
    WEIGHTINGS,
    in_axes,
    random_images,
    random_weight,
)

SHAPES = [(PLANE, torch.float64), (VOLUME, torch.float64), (PLANE, torch.complex128)]


def test_fn_of_a_small_image():
    x = torch.tensor([[0.0, 3.0], [4.0, 4.0]], dtype=torch.float64)[None, None]
    # The differences are 4, 1 downwards and 3, 0 to the right.
    assert WeightedTVPrior()(x).tolist() == [5 + 1]
    assert WeightedTVPrior("componentwise")(x).tolist() == [4 + 1 + 3]
    by_direction = torch.tensor([1.0, 10.0]).reshape(1, 1, 2, 1, 1)
    assert WeightedTVPrior("componentwise")(x, by_direction).tolist() == [5 + 30]
    assert WeightedTVPrior()(x, by_direction).item() == pytest.approx(
        math.hypot(4, 30) + 1
    )
    by_pixel = torch.tensor([[2.0, 100.0], [7.0, 7.0]])[None, None]
    assert WeightedTVPrior()(x, by_pixel).tolist() == [2 * 5 + 100 * 1]
    two = torch.cat([x, 2 * x])
    assert WeightedTVPrior()(two, torch.tensor([1.0, 3.0])).tolist() == [6, 36]


@in_one_test("weighting", WEIGHTINGS)
@in_one_test("norm", NORMS)
def test_smoothed_value_is_within_the_documented_distance(weighting: str, norm: TVNorm):
    x, weight = random_images(0, VOLUME), random_weight(1, VOLUME, weighting)
    exact = WeightedTVPrior(norm)(x, weight)
    full = in_axes(weight, x).expand(2, 1, 3, 2, 2, 3)
    corners = full
    if norm == "isotropic":
        corners = full.square().mean(2).sqrt()
    for smoothing in (1e-3, 0.1, 10.0):
        short = exact - WeightedTVPrior(norm, smoothing)(x, weight)
        assert (short >= 0).all()
        assert (short <= smoothing * corners.flatten(1).sum(1) / 2).all()
    assert (short > 0).all()


@in_one_test("norm", NORMS)
@in_one_test("weighting", WEIGHTINGS)
@in_one_test(("shape", "dtype"), SHAPES, ids=str)
def test_grad_is_the_derivative_of_fn(
    shape: tuple[int, ...], dtype: torch.dtype, weighting: str, norm: TVNorm
):
    prior = WeightedTVPrior(norm, smoothing=0.5)
    x = random_images(0, shape, dtype).requires_grad_()
    weight = random_weight(1, shape, weighting)
    (expected,) = torch.autograd.grad(prior(x, weight).sum(), x)
    torch.testing.assert_close(prior.grad(x, weight), expected)


@pytest.mark.parametrize("norm", NORMS)
def test_grad_agrees_with_finite_differences(norm: TVNorm):
    prior = WeightedTVPrior(norm, smoothing=0.5)
    x, weight = random_images(0, (1, 1, 2, 3)), random_weight(1, (1, 1, 2, 3))
    inputs = (x.requires_grad_(), weight.requires_grad_())
    assert torch.autograd.gradcheck(prior.fn, inputs, fast_mode=True)
    assert torch.autograd.gradcheck(prior.grad, inputs, fast_mode=True)


@in_one_test("norm", NORMS)
@in_one_test("smoothing", [0.0, 1e-3])
def test_gradients_are_finite_for_zero_and_tiny_weights_and_flat_images(
    norm: TVNorm, smoothing: float
):
    prior = WeightedTVPrior(norm, smoothing)
    x, weight = random_images(0, PLANE, torch.float32), random_weight(1, PLANE).float()
    x[..., 0] = x[..., 1]
    weight[0] = 0
    weight[1, 0] = 1e-38
    x.requires_grad_()
    value = prior(x, weight)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    assert value[0] == 0
    assert torch.isfinite(gradient).all()
    if smoothing:
        assert torch.isfinite(prior.grad(x, weight)).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("gamma", [0.5, torch.tensor([0.5, 2.0], dtype=torch.float64)])
def test_prox_multiplies_the_weight_by_gamma(norm: TVNorm, gamma: float | Tensor):
    x, weight = random_images(0, PLANE), random_weight(1, PLANE)
    prior = WeightedTVPrior(norm, tol=1e-13, max_iter=10**5)
    each = torch.as_tensor(gamma).double().reshape(-1, 1, 1, 1, 1)
    exact = dense_prox(x, each * weight, norm)
    found = prior.prox(x, weight, gamma=gamma)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-6)


def test_prox_uses_the_options_of_the_constructor():
    x = random_images(0, PLANE)
    prior = WeightedTVPrior("componentwise", 0.0, 1e-8, 10**4, "raise")
    expected = weighted_tv_prox(x, 0.1, "componentwise", 1e-8, 10**4)
    assert torch.equal(prior.prox(x, 0.1), expected.x)
    assert torch.equal(prior.prox(x, 0.1), prior.prox(x, 0.1))
    with pytest.raises(deq.fixed_points.ConvergenceError):
        WeightedTVPrior(tol=1e-12, max_iter=1, on_failure="raise").prox(x, 0.1)


def test_grad_raises_without_smoothing_and_prox_with():
    x = random_images(0, PLANE)
    with pytest.raises(ValueError, match="has no gradient; give WeightedTVPrior a smo"):
        WeightedTVPrior().grad(x)
    with pytest.raises(ValueError, match=r"no proximal operator, got smoothing=0\.1"):
        WeightedTVPrior(smoothing=0.1).prox(x)


@in_one_test(
    ("options", "message"),
    [
        ({"smoothing": -1.0}, "smoothing must be at least 0 and finite, got -1.0"),
        ({"smoothing": math.inf}, "smoothing must be"),
        ({"norm": "l1"}, "norm must be one of"),
        ({"tol": 2.0}, r"tol must be in \[0, 1\)"),
        ({"max_iter": -1}, "max_iter must be"),
        ({"on_failure": "x"}, "on_failure must be"),
    ],
)
def test_constructor_refuses_options_out_of_range(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        WeightedTVPrior(**options)


@pytest.mark.parametrize("call", ["fn", "prox"])
def test_methods_refuse_bad_input(call: str):
    method, x = getattr(WeightedTVPrior(), call), random_images(0, PLANE)
    with pytest.raises(ValueError, match=r"x must have shape"):
        method(x[0, 0])
    with pytest.raises(ValueError, match="weight must be a number, or have shape"):
        method(x, torch.ones(3))
    with pytest.raises(ValueError, match="gamma must be nonnegative"):
        WeightedTVPrior().prox(x, 0.1, gamma=-1.0)


def problem() -> tuple[Tensor, dinv.physics.Physics]:
    physics = dinv.physics.Denoising(dinv.physics.ZeroNoise())
    return random_images(0, (2, 1, 5, 5), torch.float32), physics


@pytest.mark.parametrize("algorithm", ["PGD", "HQS", "ADMM", "DRS"])
@pytest.mark.parametrize("module", [dinv.optim, deq.optim], ids=["deepinv", "ours"])
def test_optimisers_reach_the_minimiser(algorithm: str, module: ModuleType):
    # The problem is 1/2 |x - y|^2 + 1/2 sum w |D x| with one weight a pixel.
    y, physics = problem()
    weight = random_weight(1, y.shape, "pixel").float()
    model = getattr(module, algorithm)(
        data_fidelity=dinv.optim.L2(),
        prior=WeightedTVPrior(tol=1e-6, on_failure="ignore", max_iter=200),
        lambda_reg=0.5,
        stepsize=0.7,
        g_param=[weight],
        max_iter=15,
    )
    # HQS minimises with the Moreau envelope |x - y|^2 / (2 (1 + stepsize)).
    factor = 0.5 * (1.7 if algorithm == "HQS" else 1.0)
    exact = weighted_tv_prox(y.double(), factor * weight, tol=1e-8).x.float()
    torch.testing.assert_close(model(y, physics), exact, rtol=0, atol=2e-3)


def test_gradient_descent_reaches_the_minimiser_of_the_smoothed_prior():
    y, physics = problem()
    prior = WeightedTVPrior(smoothing=0.5)
    model = deq.optim.GD(
        data_fidelity=dinv.optim.L2(),
        prior=prior,
        stepsize=0.2,
        g_param=[random_weight(1, y.shape, "pixel").float()],
        DEQ=deq.Equilibrium(deq.Picard(rtol=1e-5, max_iter=500)),
    )
    x = model(y, physics)
    weight = model.params_algo["g_param"][0]
    slope = x - y + prior.grad(x, weight)
    assert slope.abs().max() < 1e-3


def test_weight_map_is_trained_at_equilibrium():
    y, physics = problem()
    weight = random_weight(1, y.shape, "pixel").float()
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=WeightedTVPrior(tol=1e-6, on_failure="ignore", max_iter=1000),
        stepsize=0.5,
        g_param=[weight],
        trainable_params=["g_param"],
        DEQ=deq.Equilibrium(deq.Picard(rtol=1e-4, max_iter=100)),
    )
    model(y, physics).square().sum().backward()
    (parameter,) = (p for p in model.parameters() if p.grad is not None)
    logarithm = weight.log().requires_grad_()
    x = weighted_tv_prox(y, logarithm.exp(), tol=1e-6, on_failure="ignore").x
    x.square().sum().backward()
    expected = logarithm.grad
    assert (parameter.grad - expected).norm() < 1e-2 * expected.norm()


@pytest.mark.parametrize("algorithm", ["PGD", "HQS", "ADMM", "DRS"])
def test_no_rate_is_certified(algorithm: str):
    _, physics = problem()
    model = getattr(deq.optim, algorithm)(
        data_fidelity=dinv.optim.L2(),
        prior=WeightedTVPrior(),
        stepsize=0.5,
        g_param=0.1,
        DEQ=deq.Equilibrium(deq.Picard()),
    )
    certificate = deq.certify(model, physics, (1, 8, 8))
    assert certificate.rate.is_vacuous
    assert "WeightedTVPrior" in str(certificate)
