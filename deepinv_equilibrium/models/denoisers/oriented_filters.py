"""Learned filters in eight orientations, with mean 0 and norm at most 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import fold, unfold

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


def extend_by_reflection(x: Tensor, pixels: int) -> Tensor:
    """Extend images by reflection: ... b a | a b c | c b a a b ..."""
    for axis in (-2, -1):
        size = x.shape[axis]
        index = torch.arange(-pixels, size + pixels, device=x.device) % (2 * size)
        x = x.index_select(axis, torch.minimum(index, 2 * size - 1 - index))
    return x


def extend_levels(levels: Tensor, kernel_size: int) -> Tensor:
    r"""
    Return the noise level, or threshold, at each position of a filter that overlaps an
    image, which is extended by reflection: the level at the centre of the filter.

    :param torch.Tensor levels: levels of shape :math:`(B, 1, H, W)`, or :math:`(B, 1,
        1, 1)` for one number for each image, which is returned.
    :param int kernel_size: side :math:`k` of the filters in pixels, odd.
    :return: (:class:`torch.Tensor`) levels of shape :math:`(B, 1, H + k - 1, W + k -
        1)`.
    """
    if levels.shape[-2:].numel() == 1:
        return levels
    return extend_by_reflection(levels, kernel_size // 2)


def oriented_responses(x: Tensor, filters: Tensor, border: int) -> Tensor:
    r"""
    Return the responses to filters of the channels of images, which are extended by
    reflection.

    :param torch.Tensor x: images of shape :math:`(B, C, H, W)`.
    :param torch.Tensor filters: the eight orientations of :math:`G` filters, of shape
        :math:`(8 G, 1, k, k)`.
    :param int border: number of pixels by which each side of the images is extended.
    :return: (:class:`torch.Tensor`) responses of shape :math:`(B C, 8, G, P)`, at the
        :math:`P` positions of a filter within the extended images.
    """
    # On a CPU, matrix products with patches and their gradients are two to five times
    # as fast as convolutions from or to a single channel.
    planes = channel_transform(x).flatten(0, 1)[:, None]
    patches = unfold(extend_by_reflection(planes, border), filters.shape[-1])
    return (filters.flatten(1) @ patches).unflatten(1, (8, -1))


def oriented_adjoint(
    responses: Tensor, filters: Tensor, shape: tuple[int, ...]
) -> Tensor:
    r"""
    Return the sum of filters weighted by responses, at the pixels of the image.

    :param torch.Tensor responses: responses of shape :math:`(B C, 8, G, P)`, as
        :func:`oriented_responses` returns with a ``border`` of :math:`k - 1`.
    :param torch.Tensor filters: filters of shape :math:`(8 G, 1, k, k)`.
    :param tuple shape: shape :math:`(B, C, H, W)` of the images.
    :return: (:class:`torch.Tensor`) images of this shape.
    """
    size = filters.shape[-1]
    extended = tuple(n + 2 * (size - 1) for n in shape[-2:])
    pull = fold(filters.flatten(1).mT @ responses.flatten(1, 2), extended, size)
    inner = slice(size - 1, 1 - size)
    return channel_transform(pull[..., inner, inner].reshape(shape), adjoint=True)


def orientation_norm(responses: Tensor) -> Tensor:
    """Return the norms over the orientations, of shape :math:`(B C, 1, G, P)`."""
    square = responses.square().sum(dim=1, keepdim=True)
    # torch's vector_norm takes as long as all other operations of a layer together.
    # At 0 the gradient is 0.
    return square.clamp_min(torch.finfo(square.dtype).tiny).sqrt()


def channel_transform(x: Tensor, adjoint: bool = False) -> Tensor:
    """Apply the orthonormal discrete cosine transform (II) to the channels, or its
    adjoint. It maps colours to their sum and two opponent colours."""
    channels = x.shape[1]
    index = torch.arange(channels, dtype=torch.float64, device=x.device)
    matrix = torch.cos(math.pi / channels * index[:, None] * (index + 0.5))
    matrix = (matrix / matrix.norm(dim=1, keepdim=True)).to(x.dtype)
    return torch.einsum("dc,bchw->bdhw", matrix.mT if adjoint else matrix, x)
