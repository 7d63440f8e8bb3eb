"""The point spread functions of the ReTune paper's deblurring experiment."""

from __future__ import annotations

import torch
from torch import Tensor


def directional_kernels(
    length: int = 25,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    r"""
    Return three kernels that average along a row, a column and a diagonal.

    They are the point spread functions of the deblurring experiment in *Restarted
    contractive operators to learn at equilibrium* (Davy, Briceño-Arias, Pustelnik,
    2025; paragraph "Forward models and data-fidelity terms"). It averages 25 pixels of
    the red channel horizontally, of the green one vertically and of the blue one
    diagonally. The paper does not specify the diagonal; here it is the main diagonal,
    from the upper left to the lower right.

    :param int length: number of pixels :math:`\ell \geq 1` in an average. Default: 25.
    :param torch.dtype dtype: floating-point type. Default: ``None``, torch's default.
    :param torch.device, str device: device of the kernels. Default: ``"cpu"``.
    :return: tensor of shape ``(1, 3, length, length)``. Each kernel has ``length``
        weights :math:`1/\ell` on a line through the centre
        :math:`(\lfloor \ell/2 \rfloor, \lfloor \ell/2 \rfloor)`, and sums to 1.
    :raises TypeError: if ``length`` is not an integer.
    :raises ValueError: if ``length`` is less than 1.
    """
    if isinstance(length, bool) or not isinstance(length, int):
        raise TypeError(f"length must be an int, got {length!r}.")
    if length < 1:
        raise ValueError(f"length must be at least 1 pixel, got {length}.")
    kernels = torch.zeros(1, 3, length, length, dtype=dtype, device=device)
    kernels[:, 0, length // 2, :] = 1 / length
    kernels[:, 1, :, length // 2] = 1 / length
    kernels[:, 2].diagonal(dim1=-2, dim2=-1).fill_(1 / length)
    return kernels
