"""Upsampling with nonnegative weights, bounded by Schur's bound."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate

from ..bounds import Bound, outward
from ..declarations import UncertifiableModuleError
from .lipschitz_constant import register_lipschitz_rule

DIMENSIONS = {"linear": 1, "bilinear": 2, "trilinear": 3}


@register_lipschitz_rule(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)
def upsample(module: nn.Upsample, img_size: tuple[int, ...] | None) -> Bound:
    r"""
    Bound upsampling. The operator is separable, and its weights are nonnegative with
    rows that sum to 1. By Schur's bound, its squared norm is at most the product, over
    the axes, of the largest sum of a column.

    With an image size the sums are computed. Without an image size they are known only
    for linear interpolation by an integer factor :math:`r` without aligned corners:
    they are :math:`r`. To see this, pair the samples at distances :math:`t` and
    :math:`1 - t` from a pixel: the hat function gives each pair a total weight of 1.
    Samples beyond the border are moved to the border.
    """
    if module.mode not in ("nearest", "nearest-exact", *DIMENSIONS):
        raise UncertifiableModuleError(
            module, f"the mode {module.mode!r} has negative weights. Declare a rule."
        )
    if img_size is not None:
        square = math.prod(
            _largest_column(module, axis, n) for axis, n in enumerate(img_size[1:])
        )
        # torch computes the positions of the samples in single precision.
        return Bound(
            outward(math.sqrt(square), relative=1e-6),
            source=f"Schur's bound for {img_size}",
        )
    factors = module.scale_factor
    if module.mode in DIMENSIONS and isinstance(factors, float):
        factors = (factors,) * DIMENSIONS[module.mode]
    if (
        module.mode not in DIMENSIONS
        or module.align_corners
        or not isinstance(factors, tuple)
        or any(factor != int(factor) for factor in factors)
    ):
        raise UncertifiableModuleError(
            module, "its weights depend on the image size. Give img_size."
        )
    return Bound(
        outward(math.sqrt(math.prod(factors)), relative=1e-6), source="Schur's bound"
    )


def _largest_column(module: nn.Upsample, axis: int, n: int) -> float:
    """Return the largest sum of a column of the matrix along one axis, which is the
    interpolation of the identity matrix."""

    def of_axis(value: Any) -> Any:
        return value[axis] if isinstance(value, tuple) else value

    columns = interpolate(
        torch.eye(n, dtype=torch.float64)[None],
        size=of_axis(module.size),
        scale_factor=of_axis(module.scale_factor),
        mode="linear" if module.mode in DIMENSIONS else module.mode,
        align_corners=module.align_corners,
        recompute_scale_factor=module.recompute_scale_factor,
    )
    return float(columns.sum(-1).max())
