from __future__ import annotations

from pathlib import Path

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


def random_regulariser(
    seed: int, channels: int = 1, size: int = 3, smoothness: float = 5.0
) -> RidgeRegulariser:
    """Return a small prior in float64 with random weights and active thresholds."""
    generator = torch.Generator().manual_seed(seed)
    prior = RidgeRegulariser(channels, None, smoothness, None, 2, size).double()
    for name, scale in (("generators", 1.0), ("log_threshold", 1.0)):
        weight = getattr(prior, name).data
        weight.copy_(scale * torch.randn(weight.shape, generator=generator))
    prior.log_threshold.data -= 2
    return prior


def jacobian(prior: RidgeRegulariser, x: Tensor, sigma: Tensor | float) -> Tensor:
    return dense_jacobian(lambda v: prior.grad(v, sigma), x)


def periodic_extension(x: Tensor) -> Tensor:
    mirrored = torch.cat((x, x.flip(-1)), -1)
    return torch.cat((mirrored, mirrored.flip(-2)), -2)


def test_fn_is_a_quarter_of_the_sum_over_the_periodic_extension():
    # The value is a quarter of the sum over the period.
    prior, x = random_regulariser(0, size=5), random_images(0, (1, 1, 4, 6))
    sigma = random_noise_map(0, 4, 6)
    period = periodic_extension(x)
    padded = torch.nn.functional.pad(period, (2, 2, 2, 2), mode="circular")
    responses = torch.nn.functional.conv2d(padded, prior.filters())
    levels, total = periodic_extension(sigma)[0, 0] / 0.1, 0.0
    for i in range(2):
        norm = responses[0, i::2].norm(dim=0)
        t = prior.log_threshold[0, i].exp() * levels ** prior.log_exponent.exp()
        huber = torch.where(norm <= t, norm**2 / 2, t * norm - t**2 / 2)
        total += prior.smoothness * huber.sum().item() / 4
    assert prior.fn(x, sigma).item() == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_grad_is_the_gradient_of_fn(channels: int):
    prior = random_regulariser(1, channels, size=5)
    x = random_images(1, (2, channels, 3, 7)).requires_grad_()
    for sigma in (torch.tensor([0.05, 0.2], **DOUBLE), random_noise_map(1, 3, 7, 2)):
        (expected,) = torch.autograd.grad(prior.fn(x, sigma).sum(), x)
        torch.testing.assert_close(prior.grad(x, sigma), expected, **EXACT)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    channels=st.sampled_from([1, 1, 3]),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    size=st.sampled_from([3, 5]),
    smoothness=st.sampled_from([1e-3, 1.0, 60.0]),
    magnitude=st.sampled_from([1e-12, 1e-3, 1.0, 1e12]),
    contrast=st.sampled_from([0.0, 1e-3, 1.0]),
    mapped=st.booleans(),
)
def test_dense_jacobian_is_within_the_certified_bounds(
    seed: int,
    channels: int,
    height: int,
    width: int,
    size: int,
    smoothness: float,
    magnitude: float,
    contrast: float,
    mapped: bool,
):
    prior = random_regulariser(seed, channels, size, smoothness)
    prior.generators.data *= magnitude
    x = contrast * random_images(seed, (1, channels, height, width))
    sigma = random_noise_map(seed, height, width) if mapped else 0.1
    dense = jacobian(prior, x, sigma)
    bounds = prior.gradient_bounds()
    assert bounds.kind is deq.certificates.Kind.CERTIFIED
    torch.testing.assert_close(
        dense, dense.mT, rtol=0, atol=1e-12 * smoothness, check_stride=False
    )
    eigenvalues = torch.linalg.eigvalsh((dense + dense.mT) / 2)
    assert eigenvalues[0] >= -1e-12 * smoothness
    assert eigenvalues[-1] <= bounds.upper.value * (1 + 1e-12)
    assert bounds.upper.value <= smoothness


def test_gradient_bounds_are_tight_on_large_images():
    # Below all thresholds the Jacobian is L V^T V.
    prior = random_regulariser(3, smoothness=1.0)
    prior.log_threshold.data.fill_(10.0)
    v = random_images(3, (1, 1, 64, 64))
    for _ in range(300):
        v = prior.grad(v, 0.1)
        norm, v = v.norm(), v / v.norm()
    assert 0.97 < norm <= prior.gradient_bounds().upper.value


def test_gradient_bounds_hold_for_float32_filters():
    prior = random_regulariser(4).float()
    prior.log_threshold.data.fill_(10.0)
    dense = jacobian(prior, random_images(4, (1, 1, 5, 5)), 0.1)
    assert torch.linalg.eigvalsh(dense)[-1] <= prior.gradient_bounds().upper.value
    assert prior.gradient_bounds().upper.value <= prior.smoothness


@pytest.mark.parametrize("turn", [lambda x: x.mT, lambda x: x.flip(-1)])
def test_fn_does_not_depend_on_the_orientation_of_the_image(turn):
    prior, x = random_regulariser(5, size=5), random_images(5, (1, 1, 6, 4))
    torch.testing.assert_close(
        prior.grad(turn(x), 0.1), turn(prior.grad(x, 0.1)), **EXACT
    )
    torch.testing.assert_close(prior.fn(turn(x), 0.1), prior.fn(x, 0.1), **EXACT)


def test_fn_of_a_constant_image_is_zero():
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
    # A constant map gives what the number gives, without a rounding error.
    constant = levels[:, None, None, None].expand(2, 1, 4, 4)
    for method in (prior.fn, prior.grad, prior.prox):
        assert torch.equal(method(x, constant), method(x, levels))
    assert torch.equal(prior.grad(x, constant[:1]), prior.grad(x, 0.05))
    maps = random_noise_map(7, 4, 4, 2)
    expected = torch.cat([prior.grad(x[i : i + 1], maps[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(prior.grad(x, maps), expected, **EXACT)


def test_thresholds_scale_with_the_noise_level():
    prior = random_regulariser(8)
    prior.log_exponent.data.fill_(0.0)
    x = random_images(8, (1, 1, 6, 6))
    # With the exponent 1, scaling image and noise level scales the gradient.
    torch.testing.assert_close(prior.grad(3 * x, 0.3), 3 * prior.grad(x, 0.1), **EXACT)


def test_prox_without_noise_is_the_identity_with_finite_gradients():
    prior = random_regulariser(9).float()
    x = torch.rand(1, 1, 5, 5, requires_grad=True)
    denoised = prior.prox(x, 0.0)
    torch.testing.assert_close(denoised, x, rtol=0, atol=1e-12)
    denoised.square().sum().backward()
    for tensor in (x, *prior.parameters()):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


def test_prox_meets_the_condition_of_optimality():
    prior, x = random_regulariser(10, 3), random_images(10, (2, 3, 5, 6))
    gamma = torch.tensor([0.5, 2.0], **DOUBLE)
    z = prior.prox(x, 0.2, gamma=gamma)
    residual = z - x + gamma[:, None, None, None] * prior.grad(z, 0.2)
    assert residual.abs().max() < 1e-7
    error = prior.prox_error(z, x, 0.2, gamma)
    assert (error >= residual.flatten(1).norm(dim=1)).all()
    assert error.max() < 1e-6


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


def test_constructor_loads_weights_from_a_file(tmp_path: Path):
    source = RidgeRegulariser(2, None)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    copy, x = RidgeRegulariser(2, tmp_path / "weights.pt"), torch.rand(1, 2, 8, 8)
    assert not copy.training
    assert torch.equal(source.grad(x, 0.1), copy.grad(x, 0.1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 2}, "in_channels must be 1 .* got 2"),
        ({"in_channels": 0, "pretrained": None}, "in_channels must be an integer >= 1"),
        ({"generators": 0, "pretrained": None}, "generators must be an integer >= 1"),
        ({"kernel_size": 4, "pretrained": None}, "kernel_size must be an odd .* got 4"),
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
