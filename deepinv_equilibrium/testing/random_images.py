"""Seeded random images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .random_problems import F64, generator, normal


def device_of(module: nn.Module) -> torch.device:
    """Return the device of the parameters and buffers of a module, or the CPU."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def random_images(
    img_size: Sequence[int], device: torch.device, seed: int = 0
) -> Tensor:
    r"""
    Return four images: noise in [0, 1], a noisy edge, noise far outside [0, 1], and a
    nearly constant image.

    :param Sequence img_size: :math:`(C, H, W)`, or with three spatial axes.
    :param torch.device device: device of the images.
    :param int seed: seed of the random numbers.
    :return: (:class:`torch.Tensor`) images in float64, of shape :math:`(4, C, H, W)`.
    """
    size = tuple(img_size)
    uniform = torch.rand(size, generator=generator(seed), dtype=F64)
    noise = normal(2, *size, seed=seed + 1)
    edge = torch.linspace(0, 1, size[-1], dtype=F64).round().expand(size)
    images = (uniform, edge + 0.05 * noise[0], 1.5 * noise[1], 0.5 + 0.01 * noise[0])
    return torch.stack(images).to(device)
