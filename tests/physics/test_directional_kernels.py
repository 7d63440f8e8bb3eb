from __future__ import annotations

import pytest
import torch

from deepinv_equilibrium.physics import directional_kernels

from ..one_test import in_one_test


@in_one_test("length", [1, 2, 5, 25])
def test_each_kernel_averages_length_pixels_through_its_centre(length: int) -> None:
    kernels = directional_kernels(length, dtype=torch.float64)
    assert kernels.shape == (1, 3, length, length)
    torch.testing.assert_close(
        kernels.sum((-2, -1)), torch.ones(1, 3, dtype=torch.float64)
    )
    assert (kernels > 0).sum((-2, -1)).tolist() == [[length] * 3]
    assert (kernels[..., length // 2, length // 2] == 1 / length).all()


def test_kernels_are_a_row_a_column_and_the_main_diagonal() -> None:
    red, green, blue = directional_kernels(3)[0]
    assert red.nonzero().tolist() == [[1, 0], [1, 1], [1, 2]]
    assert green.nonzero().tolist() == [[0, 1], [1, 1], [2, 1]]
    assert blue.nonzero().tolist() == [[0, 0], [1, 1], [2, 2]]


@pytest.mark.parametrize("length", [0, -3])
def test_length_below_one_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"length must be at least 1.*{length}"):
        directional_kernels(length)


@pytest.mark.parametrize("length", [2.0, True, "25"])
def test_length_that_is_not_an_integer_is_refused(length: object) -> None:
    with pytest.raises(TypeError, match="length must be an int"):
        directional_kernels(length)
