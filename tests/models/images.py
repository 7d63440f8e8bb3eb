"""Random images, and how near one is to another."""

from __future__ import annotations

import torch
from torch import Tensor


def random_images(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Uniform in [0, 1], in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def random_noise_map(seed: int, height: int, width: int, batch: int = 1) -> Tensor:
    """Return noise levels between 1e-3 and 1, and 0 at some pixels, in float64."""
    uniform = random_images(seed, (batch, 1, height, width))
    return torch.where(uniform < 0.1, 0.0, 10 ** (-3 * uniform))


def psnr(x_hat: Tensor, x: Tensor) -> float:
    """Of images in [0, 1], in dB."""
    return -10 * (x_hat - x).square().mean().log10().item()
