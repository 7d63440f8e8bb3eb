from __future__ import annotations

import math

import pytest
import torch

from deepinv_equilibrium.optim.total_variation import (
    differences,
    differences_adjoint,
    differences_norm_squared,
)
from deepinv_equilibrium.optim.total_variation.image_differences import (
    differences_adjoint_into,
    differences_into,
)

from ...one_test import in_one_test
from .dense_tv import dense_differences
from .weightings import random_dual, random_images

SIZES = [(3, 4), (1, 5), (1, 1), (2, 1, 3), (3, 2, 2), (1, 1, 1)]
DTYPES = [torch.float64, torch.complex128]


@in_one_test("size", SIZES, ids=str)
@in_one_test("dtype", DTYPES, ids=str)
def test_differences_equal_the_dense_matrix(size: tuple[int, ...], dtype: torch.dtype):
    x = random_images(0, (2, 3, *size), dtype)
    dense = dense_differences(size).to(dtype)
    expected = torch.einsum("dpn,bcn->bcdp", dense, x.flatten(2))
    found = differences(x)
    assert found.shape == (2, 3, len(size), *size)
    torch.testing.assert_close(found.flatten(3), expected, rtol=0, atol=1e-15)


@in_one_test("size", SIZES, ids=str)
@in_one_test("dtype", DTYPES, ids=str)
def test_differences_adjoint_is_the_transpose(
    size: tuple[int, ...], dtype: torch.dtype
):
    x = random_images(0, (2, 3, *size), dtype)
    p = random_dual(1, x)
    left = (differences(x) * p.conj()).sum()
    right = (x * differences_adjoint(p).conj()).sum()
    torch.testing.assert_close(left, right)


@in_one_test("size", SIZES, ids=str)
def test_differences_norm_squared_is_exact_and_rounded_upwards(size: tuple[int, ...]):
    truth = torch.linalg.matrix_norm(dense_differences(size).flatten(0, 1), 2) ** 2
    bound = differences_norm_squared(size)
    assert truth * (1 - 1e-14) <= bound <= truth * (1 + 1e-14)
    assert bound <= 4 * len(size)


def test_differences_norm_squared_of_two_pixels():
    assert differences_norm_squared((2, 2)) == pytest.approx(4)
    assert differences_norm_squared((1, 1)) == 0
    assert math.isclose(differences_norm_squared((10**6, 10**6)), 8)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_differences_are_differentiable_twice(dtype: torch.dtype):
    x = random_images(0, (2, 1, 2, 3), dtype).requires_grad_()
    p = random_dual(1, x).detach().requires_grad_()
    for function, at in ((differences, x), (differences_adjoint, p)):
        assert torch.autograd.gradcheck(function, (at,))
        assert torch.autograd.gradgradcheck(function, (at,))


@in_one_test("size", SIZES, ids=str)
@in_one_test("dtype", DTYPES, ids=str)
def test_differences_are_written_into_given_tensors(
    size: tuple[int, ...], dtype: torch.dtype
):
    x = random_images(0, (2, 3, *size), dtype)
    field = differences(x)
    assert torch.equal(differences_into(x, torch.zeros_like(field)), field)
    pulled = differences_adjoint_into(field, torch.full_like(x, math.nan))
    torch.testing.assert_close(pulled, differences_adjoint(field), rtol=0, atol=1e-14)
