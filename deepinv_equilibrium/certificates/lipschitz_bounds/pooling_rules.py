"""Pooling layers, bounded by the number of windows that share a pixel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ..bounds import Bound, outward
from ..declarations import UncertifiableModuleError
from .convolution_norms import convolution_norm
from .lipschitz_constant import register_lipschitz_rule

DIMENSIONS: dict[type[nn.Module], int] = {
    **{nn.AvgPool1d: 1, nn.AvgPool2d: 2, nn.AvgPool3d: 3},
    **{nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3},
    **{nn.LPPool1d: 1, nn.LPPool2d: 2},
}


def each_axis(module: Any, name: str) -> tuple[int, ...]:
    """Return a setting of a module for each of its spatial axes."""
    value = getattr(module, name)
    dim = next(DIMENSIONS[t] for t in type(module).__mro__ if t in DIMENSIONS)
    return (value,) * dim if isinstance(value, int) else tuple(value)


def overlap(kernel: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Return the largest number of windows that share a pixel."""
    return math.prod(-(-k // s) for k, s in zip(kernel, stride, strict=True))


@register_lipschitz_rule(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
def max_pool(module: Any, img_size: tuple[int, ...] | None) -> Bound:
    r"""Bound maximum pooling. For each window :math:`|\max a - \max b| \le \|a - b\|`,
    and a pixel counts in every window that contains it."""
    if module.return_indices:
        raise UncertifiableModuleError(module, "it returns indices too.")
    kernel, stride = each_axis(module, "kernel_size"), each_axis(module, "stride")
    dilation = each_axis(module, "dilation")
    if max(dilation) > 1 and any(each_axis(module, "padding")):
        _require_pixels(module, img_size)
    reduced = tuple(s // math.gcd(s, d) for s, d in zip(stride, dilation, strict=True))
    return Bound(outward(math.sqrt(overlap(kernel, reduced))), source="overlap")


def _require_pixels(module: Any, img_size: tuple[int, ...] | None) -> None:
    """Refuse windows without a pixel: their maximum is -inf. Only windows with gaps can
    lie in the padding."""
    if img_size is None:
        raise UncertifiableModuleError(
            module,
            "its windows have gaps, and those of small images can lie in the padding. "
            "Give img_size.",
        )
    if not bool(module(torch.zeros(1, *img_size)).isfinite().all()):
        raise UncertifiableModuleError(
            module,
            f"a window of images of size {tuple(img_size)} lies in the padding, and "
            "its maximum is -inf. Take padding=0.",
        )


@register_lipschitz_rule(nn.LPPool1d, nn.LPPool2d)
def lp_pool(module: Any, img_size: tuple[int, ...] | None) -> Bound:
    r"""Bound power-average pooling by :math:`\|a\|_p \le \|a\|_2` for each window."""
    # torch omits the absolute values, so that odd powers do not give a norm.
    if module.norm_type % 2 or module.norm_type < 2:
        raise UncertifiableModuleError(
            module, f"norm_type must be even, got {module.norm_type!r}."
        )
    if module.ceil_mode:
        raise UncertifiableModuleError(
            module, "torch rescales partial windows. Take ceil_mode=False."
        )
    kernel = each_axis(module, "kernel_size")
    stride = kernel if module.stride is None else each_axis(module, "stride")
    return Bound(outward(math.sqrt(overlap(kernel, stride))), source="overlap")


@register_lipschitz_rule(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
def avg_pool(module: Any, img_size: tuple[int, ...] | None) -> Bound:
    r"""
    Bound average pooling. If every window is divided by the same number, pooling is a
    convolution with a constant kernel. Otherwise Schur's bound applies: rows sum to 1,
    and columns sum to at most the overlap.
    """
    kernel, stride = each_axis(module, "kernel_size"), each_axis(module, "stride")
    divisor = getattr(module, "divisor_override", None)
    if divisor == 0:
        raise UncertifiableModuleError(module, "its divisor_override is 0.")
    unpadded = not any(each_axis(module, "padding"))
    if divisor is None and not module.ceil_mode:
        divisor = math.prod(kernel) if module.count_include_pad or unpadded else None
    if divisor is None:
        return Bound(outward(math.sqrt(overlap(kernel, stride))), source="overlap")
    ones = torch.ones((1, 1, *kernel), dtype=torch.float64)
    norm = float(convolution_norm(ones, stride=stride))
    # Schur's bound: rows sum to prod(kernel), columns to at most the overlap.
    schur = outward(math.sqrt(math.prod(kernel) * overlap(kernel, stride)))
    return Bound(
        outward(min(norm, schur) / abs(divisor)), source="norm of the mean filter"
    )


AVERAGE: dict[type[nn.Module], int] = {
    nn.AdaptiveAvgPool1d: 1,
    nn.AdaptiveAvgPool2d: 2,
    nn.AdaptiveAvgPool3d: 3,
}
MAXIMUM: dict[type[nn.Module], int] = {
    nn.AdaptiveMaxPool1d: 1,
    nn.AdaptiveMaxPool2d: 2,
    nn.AdaptiveMaxPool3d: 3,
}


@register_lipschitz_rule(*AVERAGE)
def adaptive_average(module: Any, img_size: tuple[int, ...] | None) -> Bound:
    """Bound adaptive average pooling by Schur's bound, axis by axis: rows sum to 1, and
    the largest sum of a column is computed."""
    return _adaptive_bound(module, AVERAGE, img_size)


@register_lipschitz_rule(*MAXIMUM)
def adaptive_maximum(module: Any, img_size: tuple[int, ...] | None) -> Bound:
    """Bound adaptive maximum pooling by the number of windows that share a pixel."""
    if module.return_indices:
        raise UncertifiableModuleError(module, "it returns indices too.")
    return _adaptive_bound(module, MAXIMUM, img_size)


def _adaptive_bound(
    module: Any,
    dimensions: dict[type[nn.Module], int],
    img_size: tuple[int, ...] | None,
) -> Bound:
    dim = next(dimensions[t] for t in type(module).__mro__ if t in dimensions)
    size = module.output_size
    outputs = (size,) * dim if size is None or isinstance(size, int) else tuple(size)
    inputs = (None,) * dim if img_size is None else img_size[-dim:]
    if not len(outputs) == len(inputs) == dim:
        raise UncertifiableModuleError(
            module,
            f"it pools {dim} axes, got output_size={size!r} and img_size={img_size!r}. "
            "Give (C, H, W) without the batch.",
        )
    square = 1.0
    for m, n in zip(outputs, inputs, strict=True):
        if m is None:
            continue  # as many windows as pixels: the identity
        # At most m windows share a pixel; all m do if n = 1.
        square *= m if n is None else _largest_sum(m, n, dimensions is AVERAGE)
    where = "any size" if img_size is None else f"{tuple(img_size)}"
    return Bound(outward(math.sqrt(square)), source=f"overlap for {where}")


def _largest_sum(m: int, n: int, average: bool) -> float:
    """Return the largest sum of a column of the matrix from n pixels to m windows."""
    columns = [0.0] * n
    for start, end in windows(m, n):
        for pixel in range(start, end):
            columns[pixel] += 1 / (end - start) if average else 1
    return max(columns)


def windows(m: int, n: int) -> Iterator[tuple[int, int]]:
    """Yield the bounds of torch's m windows of n pixels: first pixel, and last + 1."""
    return ((i * n // m, -(-(i + 1) * n // m)) for i in range(m))
