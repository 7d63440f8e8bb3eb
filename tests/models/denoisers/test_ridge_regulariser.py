from __future__ import annotations

from pathlib import Path
from typing import Any

import deepinv as dinv
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import RidgeRegulariser

from ...dense_jacobian import dense_jacobian
from ..images import random_images, random_noise_map

DOUBLE = {"dtype": torch.float64}
EXACT = {"rtol": 1e-12, "atol": 1e-12}
SMALL: dict[str, Any] = {"hidden_channels": (2,), "generators": 2, "kernel_size": 3}


def random_regulariser(
    seed: int, channels: int = 1, weak_convexity: float = 0.0, **options: Any
) -> RidgeRegulariser:
    """Return a small prior in float64 with random weights and slopes of both signs."""
    torch.manual_seed(seed)
    arguments = {**SMALL, "smoothness": 5.0, **options}
    prior = RidgeRegulariser(channels, None, weak_convexity, **arguments).double()
    for weight in prior.parameters():
        weight.data += torch.randn_like(weight)
    prior.spline.rising.data -= 3
    return prior


def jacobian(prior: RidgeRegulariser, x: Tensor, sigma: Tensor | float) -> Tensor:
    return dense_jacobian(lambda v: prior.grad(v, sigma), x)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("weak_convexity", [0.0, 1.0])
def test_grad_and_hessian_product_are_derivatives_of_fn(
    channels: int, weak_convexity: float
):
    prior = random_regulariser(1, channels, weak_convexity)
    x = random_images(1, (2, channels, 3, 7)).requires_grad_()
    v = random_images(2, x.shape)
    for sigma in (torch.tensor([0.05, 0.2], **DOUBLE), random_noise_map(1, 3, 7, 2)):
        (expected,) = torch.autograd.grad(prior.fn(x, sigma).sum(), x)
        gradient = prior.grad(x, sigma)
        torch.testing.assert_close(gradient, expected, **EXACT)
        (product,) = torch.autograd.grad(gradient, x, v)
        actual = prior.hessian_product(x, v, sigma)
        torch.testing.assert_close(actual, product, **EXACT)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    channels=st.sampled_from([1, 1, 3]),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    weak_convexity=st.sampled_from([0.0, 0.5, 1.0]),
    smoothness=st.sampled_from([1e-3, 1.0, 60.0]),
    magnitude=st.sampled_from([1e-12, 1.0, 1e12]),
    contrast=st.sampled_from([0.0, 1e-3, 1.0]),
    mapped=st.booleans(),
)
def test_dense_jacobian_is_within_the_certified_bounds(
    seed: int,
    channels: int,
    size: tuple[int, int],
    weak_convexity: float,
    smoothness: float,
    magnitude: float,
    contrast: float,
    mapped: bool,
):
    options = {"smoothness": smoothness}
    prior = random_regulariser(seed, channels, weak_convexity, **options)
    for weight in prior.filters.parameters():
        weight.data *= magnitude
    x = contrast * random_images(seed, (1, channels, *size))
    sigma = random_noise_map(seed, *size) if mapped else 0.1
    dense = jacobian(prior, x, sigma)
    bounds = prior.gradient_bounds()
    assert bounds.kind is deq.certificates.Kind.CERTIFIED
    largest = max(bounds.upper.value, -bounds.lower.value)
    torch.testing.assert_close(
        dense, dense.mT, rtol=0, atol=1e-12 * largest, check_stride=False
    )
    eigenvalues = torch.linalg.eigvalsh((dense + dense.mT) / 2)
    assert eigenvalues[0] >= bounds.lower.value - 1e-12 * largest
    assert eigenvalues[-1] <= bounds.upper.value + 1e-12 * largest
    assert bounds.lower.value >= -weak_convexity


def test_gradient_bounds_are_attained_where_all_slopes_are_equal():
    prior = random_regulariser(3)
    prior.spline.rising.data.fill_(0.0)
    v = 1e-3 * random_images(3, (1, 1, 64, 64))
    for _ in range(200):
        v = prior.grad(v, 0.1)
        norm, v = v.norm(), v / v.norm() * 1e-3
    upper = prior.gradient_bounds().upper.value
    assert 0.96 * upper < norm / 1e-3 <= upper  # the iteration converges slowly


def test_gradient_bounds_hold_for_float32_filters():
    prior = random_regulariser(4).float()
    prior.spline.rising.data.fill_(0.0)
    dense = jacobian(prior, random_images(4, (1, 1, 5, 5)), 0.1)
    assert torch.linalg.eigvalsh(dense)[-1] <= prior.gradient_bounds().upper.value


def test_fn_does_not_depend_on_reflections_of_the_image():
    prior, x = random_regulariser(5), random_images(5, (1, 1, 6, 4))
    for axis in (-2, -1):
        turned = x.flip(axis)
        expected = prior.grad(x, 0.1).flip(axis)
        torch.testing.assert_close(prior.grad(turned, 0.1), expected, **EXACT)
        torch.testing.assert_close(prior.fn(turned, 0.1), prior.fn(x, 0.1), **EXACT)


def test_constant_images_are_not_penalised():
    prior, x = random_regulariser(6, 3), random_images(6, (1, 3, 5, 5))
    constant = torch.tensor([0.1, 0.5, -2.0], **DOUBLE)[:, None, None]
    torch.testing.assert_close(prior.grad(x + constant, 0.1), prior.grad(x, 0.1))
    assert prior.fn(constant.expand(1, 3, 5, 5), 0.1).item() < 1e-12


def test_noise_levels_of_all_shapes_agree():
    prior, x = random_regulariser(7), random_images(7, (2, 1, 4, 4))
    levels = torch.tensor([0.05, 0.15], **DOUBLE)
    expected = torch.cat([prior.grad(x[i : i + 1], levels[i].item()) for i in range(2)])
    for sigma in (levels, levels[:, None, None, None]):
        torch.testing.assert_close(prior.grad(x, sigma), expected, **EXACT)
    constant = levels[:, None, None, None].expand(2, 1, 4, 4)
    for method in (prior.fn, prior.grad, prior.prox):
        torch.testing.assert_close(method(x, constant), method(x, levels), **EXACT)
    maps = random_noise_map(7, 4, 4, 2)
    expected = torch.cat([prior.grad(x[i : i + 1], maps[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(prior.grad(x, maps), expected, **EXACT)


def test_scales_are_interpolated_between_their_knots_and_constant_above():
    prior = random_regulariser(8)
    knots = torch.linspace(0, 50 / 255, 11, **DOUBLE)
    levels = torch.stack((knots[3], (knots[3] + 2 * knots[4]) / 3, 2 * knots[10]))
    scale = prior.scaling(levels[:, None, None, None])[:, :, 0, 0]
    s = prior.scaling.exponents
    exponents = torch.stack((s[:, 3], (s[:, 3] + 2 * s[:, 4]) / 3, s[:, 10]))
    torch.testing.assert_close(scale, 0.027 * exponents.exp() / levels[:, None])


def test_prox_without_noise_is_the_identity_with_finite_gradients():
    prior = random_regulariser(9).float()
    x = torch.rand(1, 1, 5, 5, requires_grad=True)
    denoised = prior.prox(x, 0.0)
    torch.testing.assert_close(denoised, x, rtol=0, atol=1e-7)
    denoised.square().sum().backward()
    for tensor in (x, *prior.parameters()):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("weak_convexity", [0.0, 0.45])
def test_prox_meets_the_condition_of_optimality(weak_convexity: float):
    prior = random_regulariser(10, 3, weak_convexity)
    x = random_images(10, (2, 3, 5, 6))
    gamma = torch.tensor([0.5, 2.0], **DOUBLE)
    z = prior.prox(x, 0.2, gamma=gamma)
    residual = z - x + gamma[:, None, None, None] * prior.grad(z, 0.2)
    assert residual.abs().max() < 1e-7
    error = prior.prox_error(z, x, 0.2, gamma)
    assert (error >= residual.flatten(1).norm(dim=1)).all()
    assert error.max() < 1e-6


@given(seed=st.integers(0, 10**6), weak_convexity=st.sampled_from([0.0, 0.7, 1.0]))
@settings(max_examples=30)
def test_prox_error_bounds_the_distance_of_rough_solutions(
    seed: int, weak_convexity: float
):
    prior = random_regulariser(seed, 1, weak_convexity)
    x = random_images(seed, (1, 1, 4, 5))
    exact = prior.prox(x, 0.2)
    rough = exact + 0.1 * torch.randn_like(x)
    error = prior.prox_error(rough, x, 0.2)
    assert (rough - exact).norm() <= error + 2 * prior.prox_error(exact, x, 0.2)


def test_prox_raises_where_it_is_not_unique():
    prior = random_regulariser(11, 1, 1.0)
    prior.spline.falling.data.fill_(20.0)
    with pytest.raises(ValueError, match=r"gamma must be at most 1.* not unique"):
        prior.prox(random_images(0, (1, 1, 4, 4)), 0.1, gamma=1.5)


def test_complex_images_are_regularised_in_their_real_and_imaginary_parts():
    prior = random_regulariser(12)
    x = torch.complex(*random_images(12, (2, 2, 1, 4, 5)))
    v = torch.complex(*random_images(13, (2, 2, 1, 4, 5)))
    for method in (prior.fn, prior.grad, prior.prox):
        parts = method(x.real, 0.1), method(x.imag, 0.1)
        expected = sum(parts) if method == prior.fn else torch.complex(*parts)
        torch.testing.assert_close(method(x, 0.1), expected, **EXACT)
    product = prior.hessian_product(x, v, 0.1)
    expected = prior.hessian_product(x.imag, v.imag, 0.1)
    torch.testing.assert_close(product.imag, expected, **EXACT)
    error = prior.prox_error(prior.prox(x, 0.1), x, 0.1)
    assert (error < 1e-6).all()


def test_volumes_have_a_regulariser_with_the_same_bounds():
    prior = random_regulariser(13, 1, 0.5, dim=3)
    x = random_images(13, (1, 1, 2, 4, 3))
    eigenvalues = torch.linalg.eigvalsh(jacobian(prior, x, 0.1))
    bounds = prior.gradient_bounds()
    assert bounds.lower.value <= eigenvalues[0]
    assert eigenvalues[-1] <= bounds.upper.value
    with pytest.raises(ValueError, match=r"\(B, 1, D, H, W\)"):
        prior.grad(x[:, :, 0], 0.1)


def test_regulariser_is_a_prior_of_gradient_descent_and_of_proximal_methods():
    torch.manual_seed(0)
    prior = random_regulariser(11)
    physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    y = random_images(11, (1, 1, 6, 6))
    solver = deq.Equilibrium(deq.Anderson(rtol=1e-11))
    shared = {
        "data_fidelity": dinv.optim.L2(),
        "prior": prior,
        "g_param": 0.1,
        "lambda_reg": 0.7,
        "DEQ": solver,
    }
    expected = prior.prox(y, 0.1, gamma=0.7)
    for model in (deq.optim.GD(stepsize=0.2, **shared), deq.optim.PGD(**shared)):
        torch.testing.assert_close(model(y, physics), expected, rtol=0, atol=1e-6)


def test_bounds_hold_at_every_step_of_a_training():
    prior = random_regulariser(14, 1, 1.0).float()
    optimizer = torch.optim.Adam(prior.parameters(), 0.5)
    x = random_images(14, (1, 1, 4, 4)).float()
    for _ in range(5):
        loss = prior.grad(x, 0.1).square().sum() - prior.fn(x, 0.1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        exact = random_regulariser(14, 1, 1.0)
        exact.load_state_dict(prior.state_dict())
        eigenvalues = torch.linalg.eigvalsh(jacobian(exact, x.double(), 0.1))
        bounds = prior.gradient_bounds()
        assert bounds.lower.value - 1e-5 <= eigenvalues[0]
        assert eigenvalues[-1] <= bounds.upper.value * (1 + 1e-5)
        assert bounds.lower.value >= -1


@pytest.mark.parametrize("part", ["filters", "spline", "scaling"])
def test_bounds_are_refused_if_a_part_was_replaced(part: str):
    prior = random_regulariser(15)
    replaced = type(getattr(prior, part))
    subclass = type("Other", (replaced,), {})
    getattr(prior, part).__class__ = subclass
    with pytest.raises(deq.certificates.UncertifiableModuleError, match="Other"):
        prior.gradient_bounds()
    model = deq.optim.GD(
        data_fidelity=dinv.optim.L2(), prior=prior, stepsize=0.1, g_param=0.1, DEQ=True
    )
    certificate = deq.certify(model, dinv.physics.Denoising(), (1, 4, 4))
    assert certificate.rate.is_vacuous
    assert certificate.convergence is deq.certificates.Convergence.UNPROVED


def test_constructor_loads_weights_from_a_file(tmp_path: Path):
    source = RidgeRegulariser(2, None)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    copy, x = RidgeRegulariser(2, tmp_path / "weights.pt"), torch.rand(1, 2, 8, 8)
    assert not copy.training
    assert torch.equal(source.grad(x, 0.1), copy.grad(x, 0.1))


def test_weights_of_the_former_regulariser_are_refused_by_name():
    old = {"generators": torch.zeros(6, 1, 7, 7), "log_threshold": torch.zeros(1, 6)}
    with pytest.raises(RuntimeError, match="Huber functions"):
        RidgeRegulariser(1, None).load_state_dict(old)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 2}, "in_channels must be 1 .* got 2"),
        ({"in_channels": 0, "pretrained": None}, "in_channels must be an integer >= 1"),
        ({"weak_convexity": 1.5}, r"weak_convexity must be in \[0, 1\], got 1.5"),
        ({"weak_convexity": 0.5}, "weights are bundled for .* weak_convexity=0.5"),
        ({"dim": 3}, "bundled .* dim=3"),
        ({"smoothness": 0.0, "pretrained": None}, r"smoothness must be in \(0, inf\)"),
    ],
)
def test_constructor_raises_for_bad_arguments(
    arguments: dict[str, object], message: str
):
    with pytest.raises(ValueError, match=message):
        RidgeRegulariser(**arguments)


@pytest.mark.parametrize("method", ["fn", "grad", "prox"])
def test_methods_raise_for_bad_images(method: str):
    with pytest.raises(ValueError, match=r"x must be .* \(B, 3, H, W\), got"):
        getattr(RidgeRegulariser(3, None), method)(torch.rand(1, 1, 8, 8), 0.1)


def test_methods_raise_for_bad_noise_levels():
    with pytest.raises(ValueError, match=r"sigma_denoiser must be .* shape \(2,\)"):
        RidgeRegulariser(1, None).grad(torch.rand(2, 1, 8, 8), torch.rand(3))


def test_gradient_without_a_graph_equals_the_one_with_a_graph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prior = RidgeRegulariser(1, None, 0.5, **SMALL).double()
    x = torch.rand(2, 1, 5, 6, dtype=torch.float64)
    expected = prior.grad(x, 0.1).detach()
    # As for large images, some filters at a time, and fewer for the spline.
    module = "deepinv_equilibrium.models.denoisers.ridge_regulariser"
    monkeypatch.setattr(f"{module}._RESPONSES_AT_ONCE", 3 * x[:, 0].numel())
    monkeypatch.setattr(f"{module}._SPLINE_AT_ONCE", 2 * x[:, 0].numel())
    with torch.no_grad():
        torch.testing.assert_close(prior.grad(x, 0.1), expected, rtol=0, atol=1e-14)
