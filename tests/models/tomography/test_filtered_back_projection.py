from __future__ import annotations

import deepinv as dinv
import torch
from torch import Tensor

from deepinv_equilibrium.certificates.spectra.double_precision import double_copy
from deepinv_equilibrium.models.tomography.fbp_unet import filtered_back_projection

from ..images import random_images


def test_filtered_back_projection_of_a_scan_is_in_the_unit_of_the_image() -> None:
    """It does not depend on whether the operator is normalised."""
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


def test_filtered_back_projection_of_inpainting_is_the_pseudo_inverse() -> None:
    mask = torch.tensor([[[2.0, 0.0, 4.0]]], dtype=torch.float64)
    physics = dinv.physics.Inpainting((1, 1, 3), mask=mask)
    x = random_images(0, (2, 1, 1, 3))
    expected = x * (mask > 0)
    torch.testing.assert_close(
        filtered_back_projection(physics.A(x), physics), expected
    )


def noisy_and_flat() -> Tensor:
    """Return a noisy sample, which needs many iterations, and two flat ones, which need
    few."""
    noisy = random_images(1, (1, 1, 12, 12))
    flat = torch.ones_like(noisy)
    return torch.cat((noisy, 0.5 * flat, 1e-3 * flat))


def blur() -> dinv.physics.Blur:
    """Return a blur whose pseudo-inverse has no closed form."""
    kernel = torch.ones(1, 1, 3, 3, dtype=torch.float64) / 9
    kernel[..., 1, 1] += 0.5
    return dinv.physics.Blur(kernel, padding="constant")


def test_iterative_inverse_solves_each_sample_independently() -> None:
    y, physics = noisy_and_flat().requires_grad_(), blur()
    together = filtered_back_projection(y, physics)
    (gradient,) = torch.autograd.grad(together.square().sum(), y)
    for k in range(len(y)):
        sample = y[k : k + 1].detach().requires_grad_()
        alone = filtered_back_projection(sample, physics)
        (own,) = torch.autograd.grad(alone.square().sum(), sample)
        scale = alone.detach().abs().max()
        torch.testing.assert_close(
            together[k : k + 1], alone, rtol=0, atol=1e-12 * scale.item()
        )
        torch.testing.assert_close(
            gradient[k : k + 1], own, rtol=0, atol=1e-11 * own.abs().max().item()
        )


def test_iterative_inverse_meets_the_tolerance_of_the_physics() -> None:
    physics, x = blur(), noisy_and_flat()
    physics.tol, physics.max_iter = 1e-12, 300
    torch.testing.assert_close(filtered_back_projection(physics.A(x), physics), x)
    physics.max_iter = 1
    assert not torch.allclose(filtered_back_projection(physics.A(x), physics), x)


def test_inverse_of_multi_coil_mri_solves_each_sample_independently() -> None:
    maps = torch.complex(random_images(2, (1, 2, 6, 6)), random_images(3, (1, 2, 6, 6)))
    mask = (random_images(4, (6, 6)) > 0.3).double()
    physics = dinv.physics.MultiCoilMRI(mask=mask, coil_maps=maps, img_size=(6, 6))
    physics.tol = 1e-2
    x = random_images(5, (2, 2, 6, 6))
    x[1] = 1e-3
    y = physics.A(x)
    together = filtered_back_projection(y, physics)
    alone = filtered_back_projection(y[1:], physics)
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=1e-14)


def test_inverse_of_nan_is_nan() -> None:
    y = torch.full((1, 1, 12, 12), torch.nan, dtype=torch.float64)
    assert filtered_back_projection(y, blur()).isnan().all()
