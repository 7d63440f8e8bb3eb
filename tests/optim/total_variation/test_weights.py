from __future__ import annotations

import math

import pytest
import torch

from deepinv_equilibrium.equilibrium.input_checks import check_image
from deepinv_equilibrium.optim.total_variation import as_weight

from ...one_test import in_one_test
from .weightings import WEIGHTINGS, in_axes, random_weight


@in_one_test("weighting", WEIGHTINGS)
@in_one_test("shape", [(2, 3, 4, 5), (2, 3, 2, 4, 5)], ids=str)
def test_as_weight_returns_the_axes_of_the_differences(
    weighting: str, shape: tuple[int, ...]
):
    x = torch.zeros(shape)
    weight = random_weight(0, shape, weighting)
    found = as_weight(weight, x)
    assert found.dtype == torch.float32
    assert torch.equal(found, in_axes(weight, x).float())
    found.expand(*shape[:2], len(shape) - 2, *shape[2:])


def test_as_weight_accepts_numbers_and_integer_tensors():
    x = torch.zeros(1, 1, 2, 2, dtype=torch.complex128)
    assert as_weight(2, x).dtype == torch.float64
    assert as_weight(torch.tensor([2]), x).shape == (1, 1, 1, 1, 1)


def test_as_weight_is_differentiable():
    weight = torch.rand(2, requires_grad=True)
    as_weight(weight, torch.zeros(2, 1, 3, 3)).sum().backward()
    assert torch.equal(weight.grad, torch.ones(2))


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
def test_as_weight_refuses_negative_or_nonfinite_values(value: float):
    with pytest.raises(ValueError, match="gamma must be nonnegative and finite, got"):
        as_weight(torch.tensor([1.0, value]), torch.zeros(2, 1, 3, 3), "gamma")


def test_as_weight_refuses_complex_weights():
    with pytest.raises(TypeError, match=r"weight must be real, got torch\.complex64"):
        as_weight(torch.tensor(1j), torch.zeros(2, 1, 3, 3))


@in_one_test(
    "shape", [(3,), (2, 1), (3, 3), (2, 3, 3), (2, 2, 3, 3), (2, 1, 3, 3, 3), (1,) * 6]
)
def test_as_weight_refuses_other_shapes(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"weight must be a number, .* got shape \("):
        as_weight(torch.ones(shape), torch.zeros(2, 1, 3, 3))


def test_check_image_refuses_other_tensors():
    check_image(torch.zeros(1, 1, 1, 1, 1))
    with pytest.raises(TypeError, match="v must be a tensor, got float"):
        check_image(1.0, "v")
    with pytest.raises(TypeError, match=r"got torch.int64; convert it, e.g. with"):
        check_image(torch.zeros(1, 1, 2, 2, dtype=torch.long))
    for shape in [(2, 2), (1, 2, 2), (1, 1, 2, 2, 2, 2), (1, 0, 2, 2), (0, 1, 2, 2)]:
        with pytest.raises(ValueError, match=r"x must have shape \(B, C, H, W\)"):
            check_image(torch.zeros(shape))


def test_missing_weight_raises_with_a_remedy():
    with pytest.raises(TypeError, match=r"g_param .* sigma_denoiser"):
        as_weight(None, torch.rand(1, 1, 4, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_check_image_refuses_other_dtypes(dtype: torch.dtype):
    with pytest.raises(TypeError, match="single or double precision"):
        check_image(torch.zeros(1, 1, 4, 4, dtype=dtype))
