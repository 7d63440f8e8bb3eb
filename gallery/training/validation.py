"""The PSNR of denoisers on validation images, for the training scripts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from image_folder import centres
from torch import Tensor

LEVELS = (5, 15, 25, 50)  # over 255


@torch.no_grad()
def validate(
    denoise: Callable[[Tensor, Tensor], Tensor], images: list[Tensor], size: int
) -> str:
    """Return the mean PSNR in dB on the centres of images, for each noise level. The
    denoiser is called with noisy images and a noise level for each."""
    x, psnr = centres(images, size), []
    for level in LEVELS:
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(level))
        sigma = torch.full((len(x),), level / 255)
        error = denoise(x + level / 255 * noise, sigma) - x
        psnr.append(-10 * float(error.square().flatten(1).mean(1).log10().mean()))
    return " ".join(f"{value:.3f}" for value in psnr)
