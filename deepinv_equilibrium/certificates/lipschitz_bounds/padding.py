"""How much the padding of a convolution adds to its norm."""

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
    Factor of one axis between the norm of a padded convolution, for the worst image
    size that torch accepts, and the supremum of its symbol.

    The padded convolution extends the image, convolves, and keeps some rows. Zero
    padding extends isometrically. The others repeat pixels, and an extension in which
    a pixel appears at most :math:`m` times has the norm :math:`\sqrt m`:

    - replicate: an end appears :math:`1 + \max(p_l, p_r)` times, the only pixel of an
      axis of one :math:`1 + p_l + p_r` times. That axis is constant once padded, its
      :math:`r` rows are all :math:`\hat k(0)`, the sum over the phases of the stride
      :math:`s`, so :math:`\sqrt{r\min(s, k)}` is a second bound there.
    - circular: :math:`\lceil (n + p_l + p_r)/n\rceil` times, with :math:`n\geq p`.
    - reflect: three times at most, a pixel between both borders.

    If every row of the stride-1 convolution is counted, circular and reflect padding
    (of period :math:`2(n-1)`) also are convolutions on a cycle, whose symbol is sampled
    from the same torus, preceded by an extension to one period (of norm 1,
    :math:`\sqrt 2`) and followed by a window on the cycle, which is more than one
    period only where more is padded than the kernel needs. With a stride this does not
    hold: the rows of [1, 1] at stride 2 on a cycle of 3 overlap.

    :param str mode: ``"zeros"``, ``"replicate"``, ``"reflect"`` or ``"circular"``.
    :param tuple padding: pixels added before and behind.
    :param int kernel_size: taps of the kernel.
    :param int stride: stride, as computed.
    :param int dilation: dilation, as computed.
    :param bool every_row: whether the symbol is that of the convolution of stride 1.
    :return: a factor that is at least 1.
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
