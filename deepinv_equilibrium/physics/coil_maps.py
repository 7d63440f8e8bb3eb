"""Synthetic sensitivities of a ring of receive coils."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# In half fields of view: outside the corners of the image, which are at sqrt(2).
RADIUS = 1.5


def birdcage_coil_maps(
    coils: int,
    img_size: tuple[int, int],
    *,
    dtype: torch.dtype = torch.complex64,
    device: torch.device | str = "cpu",
) -> Tensor:
    r"""
    Sensitivities of straight wires on a circle around the image.

    The field of wire :math:`n = 0, \dots, N-1` at distance :math:`r_n` and angle
    :math:`\varphi_n` is, by the law of Biot and Savart,

    .. math::

        b_n = \frac{1}{r_n} e^{i (\varphi_n - 2 \pi n / N)}, \qquad
        s_n = b_n \Big/ \Big( \sum_m |b_m|^2 \Big)^{1/2},

    on a circle of 1.5 half fields of view, so that :math:`\sum_n |s_n|^2 = 1` at each
    pixel. The values are those of ``sigpy.mri.birdcage_maps``, which
    :class:`deepinv.physics.MultiCoilMRI` would call, without that dependency.

    :param int coils: number of coils :math:`N \geq 1`.
    :param tuple[int, int] img_size: height and width in pixels.
    :param torch.dtype dtype: complex type; computed in double precision.
    :param torch.device, str device: where the maps are created.
    :return: complex tensor of shape ``(coils, H, W)``.
    :raises TypeError: if ``coils`` is no integer or ``dtype`` is not complex.
    :raises ValueError: if ``coils`` or a side of the image is less than 1.

    :Example:

    >>> from deepinv_equilibrium.physics import birdcage_coil_maps
    >>> maps = birdcage_coil_maps(6, (32, 24))
    >>> maps.shape, round(float(maps.abs().square().sum(0).max()), 6)
    (torch.Size([6, 32, 24]), 1.0)
    """
    if isinstance(coils, bool) or not isinstance(coils, int):
        raise TypeError(f"coils must be an int, got {coils!r}.")
    height, width = img_size
    if coils < 1 or height < 1 or width < 1:
        raise ValueError(
            "coils and both sides of img_size must be at least 1, got "
            f"coils={coils} and img_size={tuple(img_size)}."
        )
    if not dtype.is_complex:
        raise TypeError(f"dtype must be complex, got {dtype}.")
    turn = torch.arange(coils, dtype=torch.float64)[:, None, None] * math.tau / coils
    y = torch.arange(height, dtype=torch.float64)[:, None] / (height / 2) - 1
    x = torch.arange(width, dtype=torch.float64) / (width / 2) - 1
    right, down = x - RADIUS * turn.cos(), y - RADIUS * turn.sin()
    angle = torch.atan2(right, -down) - turn
    field = torch.polar(1 / torch.hypot(right, down), angle)
    maps = field / torch.linalg.vector_norm(field, dim=0)
    return maps.to(device=device, dtype=dtype)
