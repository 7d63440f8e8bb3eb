"""Extension of images by reflection, and its adjoint."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def extend_by_reflection(x: Tensor, pixels: int) -> Tensor:
    r"""
    Extend images by reflection: ... b a | a b c | c b a a b ...

    :param torch.Tensor x: images of shape :math:`(B, C, H, W)`, or volumes.
    :param int pixels: number of pixels that are added on each side.
    :return: (:class:`torch.Tensor`) the extended images.
    """
    for axis in range(2, x.ndim):
        x = x.index_select(axis, _reflected(x.shape[axis], pixels, x.device))
    return x


def fold_by_reflection(x: Tensor, pixels: int) -> Tensor:
    r"""
    Apply the adjoint of :func:`extend_by_reflection`: add each pixel of the border to
    the pixel of which it is the reflection.

    :param torch.Tensor x: extended images.
    :param int pixels: number of pixels that were added on each side.
    :return: (:class:`torch.Tensor`) images of the size before the extension.
    """
    for axis in range(2, x.ndim):
        size = x.shape[axis] - 2 * pixels
        inner = x.narrow(axis, pixels, size)
        if size < pixels:  # several reflections overlap
            index = _reflected(size, pixels, x.device)
            x = torch.zeros_like(inner).index_add(axis, index, x)
            continue
        # Slices are several times as fast as index_add.
        before = x.narrow(axis, 0, pixels).flip(axis)
        behind = x.narrow(axis, size + pixels, pixels).flip(axis)
        later = [0] * (2 * (x.ndim - 1 - axis))
        rest = size - pixels
        x = inner + pad(before, [*later, 0, rest]) + pad(behind, [*later, rest, 0])
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


def _reflected(size: int, pixels: int, device: torch.device) -> Tensor:
    """Return the index of the pixel that each pixel of an extended axis repeats."""
    index = torch.arange(-pixels, size + pixels, device=device) % (2 * size)
    return torch.minimum(index, 2 * size - 1 - index)
