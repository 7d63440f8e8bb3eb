"""Adaptive pooling: windows that follow from both sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import nn

from ..bound import Bound, outward
from ..lipschitz_registry import register_lipschitz_rule
from ..uncertifiable_module_error import UncertifiableModuleError

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
    """Schur's bound, axis by axis: rows of sum 1, and the largest sum of a column."""
    return _bound(module, AVERAGE, img_size)


@register_lipschitz_rule(*MAXIMUM)
def adaptive_maximum(module: Any, img_size: tuple[int, ...] | None) -> Bound:
    """How many windows share a pixel."""
    if module.return_indices:
        raise UncertifiableModuleError(module, "it returns indices too.")
    return _bound(module, MAXIMUM, img_size)


def _bound(
    module: Any,
    dimensions: dict[type[nn.Module], int],
    img_size: tuple[int, ...] | None,
) -> Bound:
    dim = next(dimensions[t] for t in type(module).__mro__ if t in dimensions)
    size = module.output_size
    outputs = (size,) * dim if size is None or isinstance(size, int) else tuple(size)
    inputs = (None,) * dim if img_size is None else img_size[-dim:]
    square = 1.0
    for m, n in zip(outputs, inputs, strict=True):
        if m is None:
            continue  # as many as there are pixels: the identity
        # Of n pixels, at most m windows share one, and m do if n = 1.
        square *= m if n is None else _column(m, n, dimensions is AVERAGE)
    where = "any size" if img_size is None else f"{tuple(img_size)}"
    return Bound(outward(math.sqrt(square)), source=f"overlap for {where}")


def _column(m: int, n: int, average: bool) -> float:
    """The largest sum of a column of the matrix from n pixels to m windows."""
    columns = [0.0] * n
    for start, end in windows(m, n):
        for pixel in range(start, end):
            columns[pixel] += 1 / (end - start) if average else 1
    return max(columns)


def windows(m: int, n: int) -> Iterator[tuple[int, int]]:
    """First pixel and the one after the last of torch's m windows of n pixels."""
    return ((i * n // m, -(-(i + 1) * n // m)) for i in range(m))
