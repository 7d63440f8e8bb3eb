"""Operator norm of a convolution, for every image size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .padding import padding_factor
from .torus import torus_norm

PADDING_MODES = ("zeros", "replicate", "reflect", "circular")
# Past the rounding of float64: of the transform, of the decomposition, of the factors.
ROUNDING = 1 + 1e-10


def convolution_norm(
    weight: Tensor,
    *,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    transposed: bool = False,
    padding_mode: str = "zeros",
    padding: int | str | Sequence[int] = 0,
    grid: int | None = None,
) -> Tensor:
    r"""
    Upper bound of the :math:`\ell_2` operator norm of a convolution in one to three
    dimensions, for every image size, proved and close.

    A zero-padded convolution is :math:`RCE`: the extension by zeros (an isometry), the
    convolution on the infinite grid, a restriction. Its norm is thus at most that of
    :math:`C`, the supremum over the torus of :math:`\|\hat k(\omega)\|_2`
    :footcite:p:`sedghi2019singular`, which is the truth on large images; it is bounded
    from its values on a grid (see :math:`\prod_d 1/\cos\frac{\pi(k_d-1)}{2N_d}` below).

    - A stride :math:`s` makes the kernel polyphase: :math:`s` times the input channels,
      :math:`\lceil k/s\rceil` taps.
    - A dilation :math:`d` splits the grid into sub-grids that do not meet, and so does
      not change the norm; with a stride it is the stride :math:`s/\gcd(s, d)`.
    - A transposed convolution is an adjoint, and ``output_padding`` only keeps more of
      its rows. Groups act on channels of their own: the largest counts.
    - Replicate, reflect and circular padding extend the image with a norm of their own,
      for the worst image size, the smallest ones included.

    The bound is at most :math:`\prod_d 1/\cos\frac{\pi(k_d-1)}{2N_d}` above the
    supremum: 1.0097 for 3 x 3 at the default :math:`N_d = \max(32, 8(k_d-1))`, 1.039 at
    ``grid=16``, which is faster and meant for training. It is computed in float64 and
    moved past its rounding, and is differentiable with respect to the weight: its
    gradient is that of the norm at the worst frequency.

    >>> import torch
    >>> from deepinv_equilibrium.certificates import convolution_norm
    >>> mean = torch.full((1, 1, 3, 3), 1 / 9)
    >>> print(f"{convolution_norm(mean):.3f}, {convolution_norm(mean, stride=3):.3f}")
    1.010, 0.333

    :param torch.Tensor weight: as torch stores it, ``(C_out, C_in / groups, k_1, ..)``,
        or ``(C_in, C_out / groups, k_1, ..)`` if transposed; real or complex, finite.
    :param int, Sequence stride: stride, for all the axes or for each.
    :param int, Sequence dilation: dilation, likewise.
    :param int groups: groups of channels.
    :param bool transposed: whether it is a transposed convolution.
    :param str padding_mode: ``"zeros"``, ``"replicate"``, ``"reflect"`` or
        ``"circular"``, as in :class:`torch.nn.Conv2d`.
    :param int, str, Sequence padding: pixels added at both sides, for all the axes or
        for each, or ``"same"`` or ``"valid"``. Zeros add nothing, however many.
    :param int grid: points of the grid an axis.
    :return: a 0-dim tensor, float64 on the weight's device. A float32 tensor divided by
        it remains float32.
    :raises ValueError: if an argument does not fit the weight, or the weight is not
        finite.
    """
    dim = weight.ndim - 2
    if not 1 <= dim <= 3 or weight.numel() == 0:
        raise ValueError(
            "weight must have one to three spatial axes behind its channels and must "
            f"not be empty, got the shape {tuple(weight.shape)}."
        )
    if padding_mode not in PADDING_MODES or (transposed and padding_mode != "zeros"):
        allowed = PADDING_MODES[:1] if transposed else PADDING_MODES
        raise ValueError(f"padding_mode must be in {allowed}, got {padding_mode!r}.")
    if groups < 1 or weight.shape[0] % groups:
        raise ValueError(
            f"groups must divide the first axis of the weight, {weight.shape[0]}, got "
            f"{groups!r}."
        )
    if not torch.isfinite(weight).all():
        raise ValueError("weight must be finite: it holds an infinity or a NaN.")
    strides = _each_axis("stride", stride, dim, least=1)
    dilations = _each_axis("dilation", dilation, dim, least=1)
    taps = tuple(weight.shape[2:])
    sides = _sides(padding, taps, dilations)
    kernel = weight.unflatten(0, (groups, -1))
    reduced = tuple(
        s // math.gcd(s, d) for s, d in zip(strides, dilations, strict=True)
    )

    def factor(every_row: bool) -> float:
        return math.prod(
            padding_factor(
                padding_mode,
                sides[axis],
                kernel_size=taps[axis],
                stride=strides[axis],
                dilation=dilations[axis],
                every_row=every_row or reduced[axis] == 1,
            )
            for axis in range(dim)
        )

    bound = torus_norm(_polyphase(kernel, reduced), grid) * factor(False)
    if max(strides) > 1 and factor(True) < factor(False):
        bound = torch.minimum(bound, torus_norm(kernel, grid) * factor(True))
    return bound * ROUNDING


def _polyphase(kernel: Tensor, strides: tuple[int, ...]) -> Tensor:
    """``(groups, rows, columns * prod(strides), ceil(k_1 / s_1), ...)``."""
    for axis, stride in enumerate(strides, start=3):
        if stride == 1:
            continue
        missing = -kernel.shape[axis] % stride
        padding = [0] * (2 * (kernel.ndim - 1 - axis)) + [0, missing]
        kernel = torch.nn.functional.pad(kernel, padding)
        kernel = kernel.unflatten(axis, (-1, stride)).movedim(axis + 1, 3)
        kernel = kernel.flatten(2, 3)
    return kernel


def _each_axis(
    name: str, value: int | Sequence[int], dim: int, least: int
) -> tuple[int, ...]:
    values = (value,) * dim if isinstance(value, int) else tuple(value)
    if len(values) != dim or any(v < least for v in values):
        raise ValueError(
            f"{name} must be at least {least}, for all of the {dim} axes or for each, "
            f"got {value!r}."
        )
    return values


def _sides(
    padding: int | str | Sequence[int],
    taps: tuple[int, ...],
    dilations: tuple[int, ...],
) -> list[tuple[int, int]]:
    """Pixels added before and behind each axis."""
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilations, taps, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    if isinstance(padding, str):
        if padding != "valid":
            raise ValueError(
                f"padding must be numbers, 'same' or 'valid': {padding!r}."
            )
        padding = 0
    return [(p, p) for p in _each_axis("padding", padding, len(taps), least=0)]
