"""The factor by which padding increases the norm of a convolution."""

from __future__ import annotations

from math import ceil, sqrt


def padding_factor(
    mode: str,
    padding: tuple[int, int],
    *,
    kernel_size: int,
    stride: int,
    dilation: int,
    every_row: bool,
) -> float:
    r"""
    Return a bound, along one axis, of the ratio between the norm of a padded
    convolution and the supremum of its symbol. It holds for every image size that torch
    accepts.

    A padded convolution extends the image, convolves it, and selects some rows of the
    result. Zero padding is an isometry. The other modes repeat pixels, and an extension
    in which each pixel appears at most :math:`m` times has norm :math:`\sqrt m` or
    less.

    - Replicate: a pixel at a border appears :math:`1 + \max(p_l, p_r)` times, the only
      pixel of an axis of length one :math:`1 + p_l + p_r` times. In the latter case the
      padded axis is constant, and its :math:`r` rows are all :math:`\hat k(0)`, the sum
      over the phases of the stride :math:`s`; therefore :math:`\sqrt{r\min(s, k)}` is a
      second bound.
    - Circular: a pixel appears at most :math:`\lceil (n + p_l + p_r)/n\rceil` times,
      with :math:`n\geq p`.
    - Reflect: a pixel between both borders appears at most three times.

    If every row of the convolution with stride 1 counts, circular and reflect padding
    (of period :math:`2(n-1)`) have a further bound. They extend the image to one period
    (with norm 1 or :math:`\sqrt 2`), convolve it on a cycle, whose symbol is a sample
    of the symbol on the torus, and select a window on the cycle. The window is longer
    than one period only if the padding is larger than the kernel needs. With a stride
    this argument fails: the rows of [1, 1] at stride 2 on a cycle of length 3 overlap.

    :param str mode: ``"zeros"``, ``"replicate"``, ``"reflect"`` or ``"circular"``.
    :param tuple padding: pixels added before and behind the axis, :math:`(p_l, p_r)`.
    :param int kernel_size: number of taps :math:`k` of the kernel.
    :param int stride: stride :math:`s` of the convolution.
    :param int dilation: dilation of the convolution.
    :param bool every_row: whether the symbol is that of the convolution with stride 1.
    :return: the factor, at least 1.
    """
    before, behind = padding
    total, most = before + behind, max(padding)
    if mode == "zeros" or total == 0:
        return 1.0
    excess = total - dilation * (kernel_size - 1)
    if mode == "replicate":
        phases = 1 if every_row else min(stride, kernel_size)
        rows = excess // stride + 1 if excess >= 0 else 0
        return sqrt(max(1 + most, min(1 + total, rows * phases)))
    period = most if mode == "circular" else 2 * most
    shortest = most if mode == "circular" else most + 1
    if mode == "circular":
        repeats = 1 + ceil(total / shortest)
        on_the_cycle = 1
    else:
        repeats = 1 + sum(side > 0 for side in padding)
        on_the_cycle = 2
    if every_row:
        window = on_the_cycle * max(1, ceil((shortest + excess) / period))
        repeats = min(repeats, window)
    return sqrt(repeats)
