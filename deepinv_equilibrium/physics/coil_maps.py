"""Synthetic sensitivities of receive coils on a circle."""

from __future__ import annotations

import math

import torch
from torch import Tensor

RADIUS = 1.5
"""Radius of the circle in half fields of view. The corners of the image are inside, at
sqrt(2)."""


def birdcage_coil_maps(
    coils: int,
    img_size: tuple[int, int],
    *,
    dtype: torch.dtype = torch.complex64,
    device: torch.device | str = "cpu",
) -> Tensor:
    r"""
    Return the sensitivities of straight wires on a circle around the image.

    By the law of Biot and Savart, wire :math:`n = 0, \dots, N-1` at distance
    :math:`r_n` and angle :math:`\varphi_n` has the field :math:`b_n`, which is
    normalised to the sensitivity :math:`s_n`:

    .. math::

        b_n = \frac{1}{r_n} e^{i (\varphi_n - 2 \pi n / N)}, \qquad
        s_n = b_n \Big/ \Big( \sum_m |b_m|^2 \Big)^{1/2},

    so that :math:`\sum_n |s_n|^2 = 1` at each pixel. The radius of the circle is 1.5
    half fields of view. The values equal those of ``sigpy.mri.birdcage_maps``, which
    :class:`deepinv.physics.MultiCoilMRI` calls, without that dependency.

    :param int coils: number of coils :math:`N \geq 1`.
    :param tuple[int, int] img_size: height and width in pixels.
    :param torch.dtype dtype: complex type of the maps, which are computed in double
        precision. Default: ``torch.complex64``.
    :param torch.device, str device: device of the maps. Default: ``"cpu"``.
    :return: complex tensor of shape ``(coils, H, W)``.
    :raises TypeError: if ``coils`` is not an integer or ``dtype`` is not complex.
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
