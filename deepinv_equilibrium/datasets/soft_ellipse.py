"""Ellipses with anti-aliased edges."""

from __future__ import annotations

import torch
from torch import Tensor

# Of a distance in pixels; only the centre of an ellipse, where there is no edge, has
# a smaller slope.
SMALLEST_SLOPE = 1e-6


def pixel_centres(img_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    r"""
    Coordinates of the pixels: down and to the right, from -1 to 1 over the image.

    :param tuple[int, int] img_size: height and width in pixels.
    :return: tensors of shape ``(H, 1)`` and ``(W,)``, in float64.
    """
    height, width = img_size
    y = (2 * torch.arange(height, dtype=torch.float64) + 1) / height - 1
    x = (2 * torch.arange(width, dtype=torch.float64) + 1) / width - 1
    return y[:, None], x


def soft_ellipse(
    img_size: tuple[int, int],
    centre: tuple[float | Tensor, float | Tensor],
    axes: tuple[float | Tensor, float | Tensor],
    angle: float | Tensor = 0.0,
) -> Tensor:
    r"""
    How much of each pixel an ellipse covers, to first order.

    With :math:`q` the distance to the centre in semi-axes, the boundary is at
    :math:`d = (1 - q) / |\nabla q|` pixels, to first order, and the pixel is covered by
    :math:`\frac{1}{2} + d`, clipped to :math:`[0, 1]`. The area is right to a percent
    for semi-axes of three pixels; an ellipse of less than a pixel comes out too large.

    Lengths are in :func:`pixel_centres`; numbers, or tensors that broadcast with
    ``(H, W)``, such as ``(T, 1, 1)`` for an ellipse that moves.

    :param tuple[int, int] img_size: height and width in pixels.
    :param tuple centre: of the ellipse: down, to the right.
    :param tuple axes: its semi-axes: down and to the right, before the rotation.
    :param float, torch.Tensor angle: of the rotation, in radians, clockwise.
    :return: tensor of shape ``(..., H, W)`` with values in :math:`[0, 1]`, in float64.
    """
    down, right = pixel_centres(img_size)
    down, right = down - centre[0], right - centre[1]
    turn = torch.as_tensor(angle, dtype=torch.float64)
    cos, sin = turn.cos(), turn.sin()
    u = (cos * down - sin * right) / axes[0]
    v = (sin * down + cos * right) / axes[1]
    q = torch.hypot(u, v)
    slope_down = (u * cos / axes[0] + v * sin / axes[1]) * (2 / img_size[0])
    slope_right = (v * cos / axes[1] - u * sin / axes[0]) * (2 / img_size[1])
    slope = torch.hypot(slope_down, slope_right) / q.clamp(min=SMALLEST_SLOPE)
    distance = (1 - q) / slope.clamp(min=SMALLEST_SLOPE)
    return (0.5 + distance).clamp(0, 1)
