"""The dynamic MRI of an accelerated cine scan."""

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
    Accelerated Cartesian dynamic MRI: columns of k-space that change with the frame.

    A :class:`DynamicMultiCoilMRI` of :func:`birdcage_coil_maps`, whose squares sum to
    1, a mask of deepinv's :class:`deepinv.physics.generator.GaussianMaskGenerator`,
    which samples the centre in every frame and draws the other columns for each frame
    with a Gaussian density, and Gaussian noise. Its norm is at most 1, up to the
    rounding of the maps, which :func:`deepinv_equilibrium.spectrum` certifies.

    :param tuple img_size: size of an image, ``(2, T, H, W)``.
    :param int coils: number of coils.
    :param int acceleration: about one of so many columns is sampled in a frame.
    :param float sigma: standard deviation of the noise in the real and in the imaginary
        part of each sampled entry. The transform is orthonormal: it is also that of
        the noise in a pixel of a fully sampled image.
    :param int seed: seed of the mask, which is the same on each device, and of the
        noise, which is drawn from a generator of its own.
    :param torch.device, str device: device of the physics.
    :return: the physics, with one mask for all samples.
    :raises ValueError: if ``img_size`` does not hold two channels, ``T``, ``H`` and
        ``W``, if no column would be sampled, or if ``sigma`` is negative.

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
    # Drawn on the CPU, or the mask would depend on the device.
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
