"""Learned filters in eight orientations, with mean 0 and norm at most 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...certificates import convolution_norm
from ...fixed_points.argument_checks import require_count


def random_generators(generators: int, channels: int, kernel_size: int) -> nn.Parameter:
    r"""
    Draw filters from the standard normal distribution.

    :param int generators: number of filters up to rotation and reflection.
    :param int channels: channels of a filter.
    :param int kernel_size: side of the filters in pixels, odd.
    :return: (:class:`torch.nn.Parameter`) filters of shape ``(generators, channels,
        kernel_size, kernel_size)``.
    :raises ValueError: if an argument is out of its range.
    """
    require_count("generators", generators, 1)
    if kernel_size < 3 or kernel_size % 2 == 0:
        raise ValueError(
            f"kernel_size must be an odd number, at least 3, got {kernel_size}."
        )
    return nn.Parameter(torch.randn(generators, channels, kernel_size, kernel_size))


def normalised_orbit(generators: Tensor, rounding: float) -> Tensor:
    r"""
    Return the filters :math:`V = W / B`, where :math:`W` is the orbit of the generators
    minus their means over each channel, and :math:`B \geq \|W\|`. The result is
    differentiable.

    :param torch.Tensor generators: filters of shape :math:`(G, C, k, k)`.
    :param float rounding: relative rounding error of the norm of the filters that are
        applied. :math:`B` is enlarged by twice this value.
    :return: (:class:`torch.Tensor`) filters of shape :math:`(8 G, C, k, k)`.
    """
    bank = orbit(generators - generators.mean(dim=(-2, -1), keepdim=True))
    norm = convolution_norm(bank) * (1 + 2 * rounding)
    return bank / norm.clamp_min(torch.finfo(generators.dtype).tiny)


def orbit(filters: Tensor) -> Tensor:
    """Return the eight rotations and reflections of each filter."""
    mirrored = torch.cat((filters, filters.flip(-1)))
    mirrored = torch.cat((mirrored, mirrored.flip(-2)))
    return torch.cat((mirrored, mirrored.transpose(-2, -1)))
