"""Accelerated dynamic MRI with a Cartesian mask, coil maps and noise."""

from __future__ import annotations

import torch
from deepinv.physics import GaussianNoise
from deepinv.physics.generator import GaussianMaskGenerator

from .dynamic_multi_coil_mri import DynamicMultiCoilMRI


def dynamic_mri(
    img_size: tuple[int, int, int, int] = (2, 12, 64, 64),
    *,
    coils: int = 6,
    acceleration: int = 6,
    sigma: float = 0.01,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> DynamicMultiCoilMRI:
    r"""
    Return an accelerated Cartesian dynamic MRI: each frame samples its own columns of
    k-space.

    It is a :class:`DynamicMultiCoilMRI` with :func:`birdcage_coil_maps`, whose squares
    sum to 1, Gaussian noise, and a mask of deepinv's
    :class:`deepinv.physics.generator.GaussianMaskGenerator`. The mask samples the
    centre in every frame and draws the other columns of each frame with a Gaussian
    density. The norm of the operator is at most 1 up to the rounding of the maps;
    :func:`deepinv_equilibrium.spectrum` certifies it.

    :param tuple img_size: size of an image, ``(2, T, H, W)``. Default:
        ``(2, 12, 64, 64)``.
    :param int coils: number of coils. Default: 6.
    :param int acceleration: ratio of the number of columns to the number of columns
        that one frame samples. Default: 6.
    :param float sigma: standard deviation of the noise in the real and in the imaginary
        part of each sampled entry. Because the transform is orthonormal, this is also
        the standard deviation in a pixel of a fully sampled image. Default: 0.01.
    :param int seed: seed of the mask, which is the same on every device, and of the
        noise, which has its own generator. Default: 0.
    :param torch.device, str device: device of the physics. Default: ``"cpu"``.
    :return: (DynamicMultiCoilMRI) the physics, with one mask for all samples.
    :raises ValueError: if ``img_size`` is not ``(2, T, H, W)``, ``acceleration`` is
        not between 1 and ``W``, or ``sigma`` is negative or not finite.

    :Example:

    >>> import torch, deepinv_equilibrium as deq
    >>> physics = deq.plugins.create("physics", "dynamic-mri", coils=4)
    >>> physics(torch.zeros(1, 2, 12, 64, 64)).shape
    torch.Size([1, 2, 4, 12, 64, 64])
    """
    if len(img_size) != 4 or img_size[0] != 2 or min(img_size) < 1:
        raise ValueError(f"img_size must be (2, T, H, W), got {tuple(img_size)}.")
    if not 1 <= acceleration <= img_size[-1]:
        raise ValueError(
            "acceleration must be between 1 and the number of columns, "
            f"{img_size[-1]}, got {acceleration}."
        )
    if not 0 <= sigma < float("inf"):
        raise ValueError(f"sigma must be finite and nonnegative, got {sigma}.")
    # Random numbers depend on the device, so the mask is always drawn on the CPU.
    masks = GaussianMaskGenerator(
        tuple(img_size), acceleration, rng=torch.Generator().manual_seed(seed)
    )
    return DynamicMultiCoilMRI(
        mask=masks.step()["mask"],
        coil_maps=coils,
        noise_model=GaussianNoise(
            sigma, rng=torch.Generator(device=device).manual_seed(seed)
        ),
        device=device,
    )
