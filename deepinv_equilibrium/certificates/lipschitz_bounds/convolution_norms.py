"""Bounds of the operator norm of a convolution for every image size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .padding import padding_factor
from .torus import torus_norm

PADDING_MODES = ("zeros", "replicate", "reflect", "circular")
# Covers the rounding of the transform, the decomposition and the factors in float64.
ROUNDING = 1 + 1e-10


def convolution_norm(
    weight: Tensor,
    *,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    transposed: bool = False,
    padding_mode: str = "zeros",
    padding: int | str | Sequence[int | tuple[int, int]] = 0,
    grid: int | None = None,
) -> Tensor:
    r"""
    Return a proved upper bound of the :math:`\ell_2` operator norm of a convolution in
    one to three dimensions. It holds for every image size.

    A zero-padded convolution is a product :math:`RCE` of the extension :math:`E` by
    zeros, which is an isometry, the convolution :math:`C` on the infinite grid, and a
    restriction :math:`R`. Its norm is at most the norm of :math:`C`, the supremum of
    :math:`\|\hat k(\omega)\|_2` over the torus :footcite:p:`sedghi2019singular`, which
    it approaches on large images. The supremum is bounded by values on a grid.

    - A stride :math:`s` turns the kernel into its polyphase components, with :math:`s`
      times as many input channels and :math:`\lceil k/s\rceil` taps.
    - A dilation :math:`d` splits the grid into disjoint sub-grids and does not change
      the norm. In combination with a dilation, the stride acts as the stride
      :math:`s/\gcd(s, d)`.
    - A transposed convolution is an adjoint; ``output_padding`` only adds rows. Groups
      act on separate channels, so that the largest norm of a group counts.
    - Replicate, reflect and circular padding multiply the bound by the norm of the
      extension, for the worst image size, small sizes included.

    The bound exceeds the supremum at most by the factor
    :math:`\prod_d 1/\cos\frac{\pi(k_d-1)}{2N_d}` for :math:`N_d` grid points and
    :math:`k_d` taps along axis :math:`d`. For 3 x 3 taps the factor is 1.0097 at the
    default :math:`N_d = \max(32, 8(k_d-1))`, and 1.039 at ``grid=16``, which is faster
    and recommended for training. The computation is in float64, and its rounding is
    included. The bound is differentiable in the weight: its gradient is that of the
    norm at the worst frequency.

    >>> import torch
    >>> from deepinv_equilibrium.certificates import convolution_norm
    >>> mean = torch.full((1, 1, 3, 3), 1 / 9)
    >>> print(f"{convolution_norm(mean):.3f}, {convolution_norm(mean, stride=3):.3f}")
    1.010, 0.333

    :param torch.Tensor weight: the weight in torch's layout,
        ``(C_out, C_in / groups, k_1, ..)``, or ``(C_in, C_out / groups, k_1, ..)`` if
        transposed; real or complex, and finite.
    :param int, Sequence stride: stride for all axes or for each axis. Default: 1.
    :param int, Sequence dilation: dilation for all axes or for each axis. Default: 1.
    :param int groups: number of groups of channels. Default: 1.
    :param bool transposed: whether the convolution is transposed. Default: ``False``.
    :param str padding_mode: ``"zeros"``, ``"replicate"``, ``"reflect"`` or
        ``"circular"``, as in :class:`torch.nn.Conv2d`. Default: ``"zeros"``.
    :param int, str, Sequence padding: pixels added on both sides, for all axes or for
        each axis, or ``"same"`` or ``"valid"``. For an axis, a pair ``(before,
        behind)`` gives each side its own number. The bound does not depend on the
        number of zeros. Default: 0.
    :param int grid: number :math:`N_d` of grid points along each axis. Default:
        ``None``, :math:`\max(32, 8(k_d-1))`.
    :return: a 0-dim float64 tensor on the weight's device. A float32 tensor divided by
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
    strides = axis_values("stride", stride, dim, least=1)
    dilations = axis_values("dilation", dilation, dim, least=1)
    taps = tuple(weight.shape[2:])
    sides = padded_sides(padding, taps, dilations)
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
    """Return the polyphase components of a kernel, of shape ``(groups, rows, columns *
    prod(strides), ceil(k_1 / s_1), ...)``."""
    for axis, stride in enumerate(strides, start=3):
        if stride == 1:
            continue
        missing = -kernel.shape[axis] % stride
        padding = [0] * (2 * (kernel.ndim - 1 - axis)) + [0, missing]
        kernel = torch.nn.functional.pad(kernel, padding)
        kernel = kernel.unflatten(axis, (-1, stride)).movedim(axis + 1, 3)
        kernel = kernel.flatten(2, 3)
    return kernel


def axis_values(
    name: str, value: int | Sequence[int], dim: int, least: int
) -> tuple[int, ...]:
    """Return a value for each of ``dim`` axes."""
    values = (value,) * dim if isinstance(value, int) else tuple(value)
    if len(values) != dim or any(v < least for v in values):
        raise ValueError(
            f"{name} must be at least {least}, one number for all {dim} axes or one "
            f"for each axis, got {value!r}."
        )
    return values


def padded_sides(
    padding: int | str | Sequence[int | tuple[int, int]],
    taps: tuple[int, ...],
    dilations: tuple[int, ...],
) -> list[tuple[int, int]]:
    r"""
    Return the pixels that are added before and behind each axis.

    :param int, str, Sequence padding: as for :func:`convolution_norm`.
    :param tuple taps: number of taps of the kernel along each axis.
    :param tuple dilations: dilation along each axis.
    :return: (list) a pair for each axis.
    :raises ValueError: if a number is negative, or there is not one for each axis.
    """
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilations, taps, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    if isinstance(padding, str):
        if padding != "valid":
            raise ValueError(
                f"padding must be numbers, 'same' or 'valid', got {padding!r}."
            )
        padding = 0
    each = [padding] * len(taps) if isinstance(padding, int) else padding
    pairs = [(p, p) if isinstance(p, int) else tuple(p) for p in each]
    before = axis_values("padding", [p for p, _ in pairs], len(taps), least=0)
    behind = axis_values("padding", [p for _, p in pairs], len(taps), least=0)
    return list(zip(before, behind, strict=True))
