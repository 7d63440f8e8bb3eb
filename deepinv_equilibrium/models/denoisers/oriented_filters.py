"""Learned filters in eight orientations, with mean 0."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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


def centred_orbit(generators: Tensor) -> Tensor:
    r"""
    Return the orbit of filters minus their means over each channel.

    :param torch.Tensor generators: filters of shape :math:`(G, C, k, k)`.
    :return: (:class:`torch.Tensor`) filters of shape :math:`(8 G, C, k, k)`.
    """
    return orbit(generators - generators.mean(dim=(-2, -1), keepdim=True))


def orbit(filters: Tensor) -> Tensor:
    """Return the eight rotations and reflections of each filter."""
    mirrored = torch.cat((filters, filters.flip(-1)))
    mirrored = torch.cat((mirrored, mirrored.flip(-2)))
    return torch.cat((mirrored, mirrored.transpose(-2, -1)))
