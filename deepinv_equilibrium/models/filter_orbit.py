"""Learned filters in all their orientations, without mean and of norm at most 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..certificates import convolution_norm


def random_generators(generators: int, channels: int, kernel_size: int) -> nn.Parameter:
    r"""
    :param int generators: number of filters up to rotation and reflection.
    :param int channels: channels of a filter.
    :param int kernel_size: side of the filters, odd.
    :return: (:class:`torch.nn.Parameter`) standard normal, of shape ``(generators,
        channels, kernel_size, kernel_size)``.
    :raises ValueError: if an argument is out of its range.
    """
    if generators < 1:
        raise ValueError(f"generators must be at least 1, got {generators}.")
    if kernel_size < 3 or kernel_size % 2 == 0:
        raise ValueError(
            f"kernel_size must be an odd number, at least 3, got {kernel_size}."
        )
    return nn.Parameter(torch.randn(generators, channels, kernel_size, kernel_size))


def normalised_orbit(generators: Tensor, rounding: float) -> Tensor:
    r"""
    The filters :math:`V = W / B`, where :math:`W` is the orbit of the generators
    without their means over each channel, and :math:`B \geq \|W\|`, differentiably.

    :param torch.Tensor generators: of shape :math:`(G, C, k, k)`.
    :param float rounding: by how much, relative to 1, rounding may move the norm of
        what is applied; :math:`B` leaves room for twice that.
    :return: (:class:`torch.Tensor`) of shape :math:`(8 G, C, k, k)`.
    """
    bank = orbit(generators - generators.mean(dim=(-2, -1), keepdim=True))
    norm = convolution_norm(bank) * (1 + 2 * rounding)
    return bank / norm.clamp_min(torch.finfo(generators.dtype).tiny)


def orbit(filters: Tensor) -> Tensor:
    """The eight rotations and reflections of each filter."""
    mirrored = torch.cat((filters, filters.flip(-1)))
    mirrored = torch.cat((mirrored, mirrored.flip(-2)))
    return torch.cat((mirrored, mirrored.transpose(-2, -1)))


def extend_by_reflection(x: Tensor, pixels: int) -> Tensor:
    """Extend images on all sides, edges repeated: ... b a | a b c | c b a a b ..."""
    for axis in (-2, -1):
        size = x.shape[axis]
        index = torch.arange(-pixels, size + pixels, device=x.device) % (2 * size)
        x = x.index_select(axis, torch.minimum(index, 2 * size - 1 - index))
    return x
