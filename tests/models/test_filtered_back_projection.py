from __future__ import annotations

import deepinv as dinv
import torch

from deepinv_equilibrium.certificates.double_precision import double_copy
from deepinv_equilibrium.models.filtered_back_projection import (
    filtered_back_projection,
)

from .images import random_images


def test_of_a_scan_it_is_in_the_unit_of_the_image() -> None:
    """Whatever the norm of the operator is taken to be."""
    x = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    x[..., 8:24, 8:24] = 2.0
    images = []
    for normalize in (True, False):
        physics = double_copy(
            dinv.physics.Tomography(60, 32, circle=True, normalize=normalize)
        )
        images.append(filtered_back_projection(physics.A(x), physics))
    torch.testing.assert_close(*images)
    assert abs(images[0][..., 12:20, 12:20].mean() - 2) < 0.1


def test_of_another_physics_it_is_the_pseudo_inverse() -> None:
    mask = torch.tensor([[[2.0, 0.0, 4.0]]], dtype=torch.float64)
    physics = dinv.physics.Inpainting((1, 1, 3), mask=mask)
    x = random_images(0, (2, 1, 1, 3))
    expected = x * (mask > 0)
    torch.testing.assert_close(
        filtered_back_projection(physics.A(x), physics), expected
    )
