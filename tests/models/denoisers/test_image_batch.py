from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.equilibrium.input_checks import check_images
from deepinv_equilibrium.models.denoisers.bundled_weights import (
    each_image,
    noise_levels,
)

from ...one_test import in_one_test


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_check_images_accepts_real_images_of_any_size(dtype: torch.dtype):
    check_images(torch.zeros(2, 3, 1, 7, dtype=dtype), 3)


@in_one_test(
    "x",
    [
        torch.zeros(3, 8, 8),
        torch.zeros(1, 3, 2, 8, 8),
        torch.zeros(1, 1, 8, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.int64),
        torch.zeros(1, 3, 8, 8, dtype=torch.complex64),
    ],
)
def test_check_images_raises_for_other_tensors(x: Tensor):
    with pytest.raises(ValueError, match=r"x must be .* \(B, 3, H, W\), got") as caught:
        check_images(x, 3)
    assert f"{x.dtype} of shape {tuple(x.shape)}" in str(caught.value)


def test_each_image_accepts_one_number_or_one_for_each_image():
    x = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    for value in (0.5, 1, torch.tensor(0.5), torch.ones(1), torch.ones(1, 1, 1, 1)):
        shared = each_image("sigma", value, x)
        assert shared.shape == (1, 1, 1, 1)
        assert shared.dtype == x.dtype
        assert shared.item() == float(value)
    for shape in ((2,), (2, 1, 1, 1)):
        values = each_image("sigma", torch.tensor([0.5, 2.0]).reshape(shape), x)
        assert values.shape == (2, 1, 1, 1)
        assert values.flatten().tolist() == [0.5, 2.0]


def test_each_image_passes_gradients():
    sigma = torch.tensor([0.5, 2.0], requires_grad=True)
    each_image("sigma", sigma, torch.zeros(2, 1, 3, 3)).square().sum().backward()
    assert sigma.grad is not None
    assert sigma.grad.tolist() == [1.0, 4.0]


@pytest.mark.parametrize("shape", [(3,), (2, 1, 8, 8), (2, 1)])
def test_each_image_raises_for_other_shapes(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"gamma must be .* \(2, 1, 1, 1\)") as caught:
        each_image("gamma", torch.ones(shape), torch.zeros(2, 3, 8, 8))
    assert str(shape) in str(caught.value)


def test_noise_levels_returns_maps_and_values_of_each_image():
    x = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    levels = torch.rand(2, 1, 4, 5)
    assert torch.equal(noise_levels("sigma", levels, x), levels.double())
    shared = noise_levels("sigma", levels[:1], x)
    assert torch.equal(shared, levels[:1].double().expand(2, 1, 4, 5))
    for value in (0.5, torch.rand(2), torch.rand(2, 1, 1, 1)):
        expected = each_image("sigma", value, x)
        assert torch.equal(noise_levels("sigma", value, x), expected)


@in_one_test("shape", [(3,), (2, 3, 4, 5), (2, 1, 5, 4), (3, 1, 4, 5), (4, 5), (2, 1)])
def test_noise_levels_raises_for_other_shapes(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"sigma must be .* \(2, 1, 4, 5\)") as caught:
        noise_levels("sigma", torch.ones(shape), torch.zeros(2, 3, 4, 5))
    assert str(shape) in str(caught.value)
