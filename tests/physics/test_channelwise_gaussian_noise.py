from __future__ import annotations

import copy
import re

import pytest
import torch
from deepinv.physics import Denoising, NoiseModel

from deepinv_equilibrium.physics import ChannelwiseGaussianNoise

from ..one_test import in_one_test


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def standard_normal(x: torch.Tensor, seed: int) -> torch.Tensor:
    return torch.empty_like(x).normal_(generator=generator(seed))


@in_one_test("dtype", [torch.float32, torch.float64])
@in_one_test("spatial", [(7,), (7, 6), (4, 5, 3)])
@in_one_test("sigma", [(0.5,), (0.0, 0.25, 2.0)])
def test_each_channel_has_its_own_standard_deviation(dtype, spatial, sigma) -> None:
    x = torch.zeros(2, len(sigma), *spatial, dtype=dtype)
    y = ChannelwiseGaussianNoise(sigma, rng=generator(3))(x)
    assert y.dtype == dtype
    for c, deviation in enumerate(sigma):
        expected = deviation * standard_normal(x, 3)[:, c]
        torch.testing.assert_close(y[:, c], expected, rtol=1e-14, atol=0)


def test_empirical_deviations_are_sigma() -> None:
    sigma = torch.tensor([0.1, 0.25, 0.5], dtype=torch.float64)
    x = torch.ones(4, 3, 100, 100, dtype=torch.float64)
    noise = ChannelwiseGaussianNoise(sigma, rng=generator())(x) - x
    # With 40000 values per channel the standard error of a deviation is 0.35 %.
    torch.testing.assert_close(noise.std((0, 2, 3)), sigma, rtol=0.015, atol=0)


def test_sigma_may_be_one_value_or_have_a_row_per_sample() -> None:
    x = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    unit = standard_normal(x, 0)
    shared = ChannelwiseGaussianNoise(0.5, rng=generator())(x)
    torch.testing.assert_close(shared, 0.5 * unit, rtol=0, atol=0)
    rows = torch.arange(6.0, dtype=torch.float64).reshape(2, 3)
    y = ChannelwiseGaussianNoise(rows, rng=generator())(x)
    torch.testing.assert_close(y, rows[..., None, None] * unit, rtol=0, atol=0)


def test_seed_and_reset_rng_repeat_the_noise() -> None:
    noise = ChannelwiseGaussianNoise((0.1, 0.2, 0.3), rng=generator(5))
    x = torch.zeros(1, 3, 4, 4)
    first, second = noise(x), noise(x)
    assert (first != second).all()
    noise.reset_rng()
    assert torch.equal(noise(x), first)
    assert torch.equal(noise(x, seed=8), noise(x, seed=8))


def test_given_generator_is_used_and_not_copied() -> None:
    rng = generator()
    noise = ChannelwiseGaussianNoise((0.1, 0.2, 0.3), rng=rng)
    before = rng.get_state()
    noise(torch.zeros(1, 3, 4, 4))
    assert not torch.equal(rng.get_state(), before)


@pytest.mark.parametrize("sigma", [(0.0, 1.0, 2.0), torch.tensor([0.0, 1.0, 2.0])])
def test_call_of_physics_replaces_sigma(sigma) -> None:
    physics = Denoising(ChannelwiseGaussianNoise((9.0, 9.0, 9.0), rng=generator()))
    x = torch.zeros(1, 3, 4, 4)
    y = physics(x, sigma=sigma, seed=1)
    assert (y[:, 0] == 0).all()
    assert torch.equal(physics.noise_model.sigma, torch.tensor([0.0, 1.0, 2.0]))
    assert torch.equal(physics(x, seed=1), y)
    physics.update(sigma=0.0)
    assert torch.equal(physics(x), x)


def test_sigma_is_saved_copied_and_converted_with_the_module() -> None:
    noise = ChannelwiseGaussianNoise((0.1, 0.2, 0.3), rng=generator())
    other = ChannelwiseGaussianNoise((0.0, 0.0, 0.0), rng=generator())
    other.load_state_dict(noise.state_dict())
    assert torch.equal(other.sigma, noise.sigma)
    x = torch.zeros(1, 3, 2, 2)
    assert torch.equal(copy.deepcopy(noise)(x, seed=2), noise(x, seed=2))
    assert noise.to(torch.float64).sigma.dtype == torch.float64


def test_noise_is_differentiable_in_sigma() -> None:
    sigma = torch.tensor([0.1, 0.2], dtype=torch.float64, requires_grad=True)
    x = torch.zeros(2, 2, 3, 3, dtype=torch.float64)
    ChannelwiseGaussianNoise(sigma, rng=generator())(x).sum().backward()
    torch.testing.assert_close(sigma.grad, standard_normal(x, 0).sum((0, 2, 3)))


def test_product_applies_both_noises() -> None:
    offset = NoiseModel(lambda x: x + 1)
    noise = ChannelwiseGaussianNoise((1.0, 2.0), rng=generator())
    x = torch.zeros(1, 2, 3, 3)
    expected = noise(x + 1, seed=4)
    assert torch.equal((noise * offset)(x, seed=4), expected)
    with pytest.raises(TypeError, match="unsupported operand"):
        noise * 2.0


@in_one_test(
    ("sigma", "error", "message"),
    [
        ((0.1, -0.2, 0.3), ValueError, "non-negative, got.*-0.2"),
        ((0.1, float("nan")), ValueError, "finite.*nan"),
        (float("inf"), ValueError, "finite.*inf"),
        ((), ValueError, r"\(C,\) or \(B, C\), got \(0,\)"),
        (torch.ones(1, 3, 1, 1), ValueError, r"got \(1, 3, 1, 1\)"),
        ("0.1", TypeError, "sigma must be a number.*'0.1'"),
        (torch.tensor([1, 2]), TypeError, "floating-point, got torch.int64"),
        (torch.tensor([1j]), TypeError, "floating-point, got torch.complex64"),
    ],
)
def test_bad_sigma_is_refused_by_constructor_and_update(sigma, error, message) -> None:
    with pytest.raises(error, match=message):
        ChannelwiseGaussianNoise(sigma)
    noise = ChannelwiseGaussianNoise(0.1)
    with pytest.raises(error, match=message):
        noise(torch.zeros(1, 3, 2, 2), sigma=sigma)


@in_one_test(
    ("sigma", "x", "error", "message"),
    [
        ((0.1, 0.2), torch.ones(1, 3, 4, 4), ValueError, "x has 3 channels.* 2 values"),
        (torch.ones(2, 3), torch.ones(1, 3, 4, 4), ValueError, "x has 1 sam.* 2 rows"),
        (0.1, torch.ones(3, 4), ValueError, re.escape("(B, C, ...), got (3, 4)")),
        (0.1, torch.ones(1, 3, 4, 4).int(), TypeError, "floating-point.*int32"),
        (0.1, torch.ones(1, 1, 4, 4) + 0j, TypeError, "floating-point.*complex64"),
    ],
)
def test_measurement_of_wrong_shape_or_type_is_refused(
    sigma, x, error, message
) -> None:
    with pytest.raises(error, match=message):
        ChannelwiseGaussianNoise(sigma)(x)
