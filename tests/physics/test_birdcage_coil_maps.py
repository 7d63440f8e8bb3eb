from __future__ import annotations

import cmath
import math

import pytest
import torch

from deepinv_equilibrium.physics import birdcage_coil_maps

from ..one_test import in_one_test


@in_one_test("coils", [1, 2, 7])
@in_one_test("size", [(1, 1), (5, 8), (33, 20)])
def test_squares_of_maps_sum_to_one_at_each_pixel(coils: int, size: tuple[int, int]):
    maps = birdcage_coil_maps(coils, size, dtype=torch.complex128)
    assert maps.shape == (coils, *size)
    torch.testing.assert_close(
        maps.abs().square().sum(0),
        torch.ones(size, dtype=torch.float64),
        rtol=0,
        atol=1e-14,
    )
    rounded = birdcage_coil_maps(coils, size)
    assert torch.equal(rounded, maps.to(torch.complex64))


def test_maps_are_fields_of_wires_on_a_circle() -> None:
    coils, height, width = 5, 6, 9
    maps = birdcage_coil_maps(coils, (height, width), dtype=torch.complex128)
    for row, column in ((0, 0), (2, 7), (5, 8)):
        point = complex(column / (width / 2) - 1, row / (height / 2) - 1)
        fields = []
        for n in range(coils):
            wire = 1.5 * cmath.exp(2j * math.pi * n / coils)
            # sigpy measures the angle from -y towards x: the angle of i (z - w).
            turned = 1j * (point - wire)
            fields.append(turned / abs(turned) ** 2 * cmath.exp(-2j * math.pi * n / 5))
        power = math.sqrt(sum(abs(field) ** 2 for field in fields))
        for n, field in enumerate(fields):
            assert complex(maps[n, row, column]) == pytest.approx(field / power)


def test_each_coil_is_most_sensitive_to_nearest_edge() -> None:
    maps = birdcage_coil_maps(4, (32, 32)).abs()
    edges = [(16, 31), (31, 16), (16, 0), (0, 16)]  # right, down, left, up
    for n, (row, column) in enumerate(edges):
        assert maps[:, row, column].argmax() == n


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((2.0, (4, 4)), TypeError, "coils must be an int, got 2.0"),
        ((0, (4, 4)), ValueError, "coils=0"),
        ((2, (4, 0)), ValueError, r"img_size=\(4, 0\)"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        birdcage_coil_maps(*arguments)


def test_real_dtype_is_refused() -> None:
    with pytest.raises(TypeError, match=r"complex, got torch\.float32"):
        birdcage_coil_maps(2, (4, 4), dtype=torch.float32)
