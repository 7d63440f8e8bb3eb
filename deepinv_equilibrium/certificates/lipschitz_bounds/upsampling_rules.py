"""Upsampling with nonnegative weights, bounded by Schur's bound."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate

from ..bounds import Bound, outward
from ..declarations import UncertifiableModuleError
from .lipschitz_constant import register_lipschitz_rule

LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3}
NEAREST = ("nearest", "nearest-exact")


@register_lipschitz_rule(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)
def upsample(module: nn.Upsample, img_size: tuple[int, ...] | None) -> Bound:
    r"""
    Bound upsampling. The operator is separable, and its weights are nonnegative with
    rows that sum to 1. By Schur's bound, its squared norm is at most the product, over
    the axes, of the largest sum of a column.

    With an image size the sums are computed. Without an image size they are known only
    for integer factors :math:`r`:

    - For linear interpolation without aligned corners they are :math:`r`. To see this,
      pair the samples at distances :math:`t` and :math:`1 - t` from a pixel: the hat
      function gives each pair a total weight of 1. Samples beyond the border are moved
      to the border.
    - The mode ``"nearest-exact"`` repeats each pixel :math:`r` times. The mode
      ``"nearest"`` does so too if the value of :math:`1/r` in single precision is not
      below :math:`1/r`; otherwise a pixel may appear :math:`r + 1` times. This holds
      for axes of up to :math:`2^{22}` pixels after upsampling. A single factor is
      taken for three axes, the most that torch upsamples.
    """
    if module.mode not in (*NEAREST, *LINEAR):
        raise UncertifiableModuleError(
            module, f"the mode {module.mode!r} has negative weights. Declare a rule."
        )
    if img_size is not None:
        square = math.prod(_largest_columns(module, img_size[1:]))
        # torch computes the positions of the samples in single precision.
        return Bound(
            outward(math.sqrt(square), relative=1e-6),
            source=f"Schur's bound for {img_size}",
        )
    factors = _factors(module)
    fixed = factors and all(factor == int(factor) for factor in factors)
    if module.align_corners or not fixed:
        raise UncertifiableModuleError(
            module, "its weights depend on the image size. Give img_size."
        )
    square = math.prod(_repetitions(module.mode, int(factor)) for factor in factors)
    return Bound(outward(math.sqrt(square), relative=1e-6), source="Schur's bound")


def _factors(module: nn.Upsample) -> tuple[float, ...]:
    """Return the factor of each axis; nothing if the size is given."""
    factors: Any = module.scale_factor
    if factors is None:
        return ()
    if isinstance(factors, tuple | list):
        return tuple(factors)
    two = isinstance(module, nn.UpsamplingNearest2d | nn.UpsamplingBilinear2d)
    return (factors,) * (2 if two else LINEAR.get(module.mode, 3))


def _repetitions(mode: str, factor: int) -> int:
    """Return the largest sum of a column for an integer factor."""
    if mode != "nearest":
        return factor
    rounded = Fraction(float(torch.tensor(1 / factor, dtype=torch.float32)))
    return factor if rounded >= Fraction(1, factor) else factor + 1


def _largest_columns(module: nn.Upsample, sizes: tuple[int, ...]) -> list[float]:
    """Return, for each axis, the largest sum of a column of the matrix along it."""
    axes = len(sizes)
    each = {}
    for name in ("size", "scale_factor"):
        value: Any = getattr(module, name)
        each[name] = list(value) if isinstance(value, tuple | list) else [value] * axes
        if len(each[name]) != axes or axes != LINEAR.get(module.mode, axes):
            raise UncertifiableModuleError(
                module,
                f"its mode {module.mode!r} and {name}={value!r} do not fit images with "
                f"{axes} spatial axes. Give img_size=(C, H, W) without the batch.",
            )
    columns = zip(sizes, each["size"], each["scale_factor"], strict=True)
    return [_largest_column(module, *axis) for axis in columns]


def _largest_column(
    module: nn.Upsample, n: int, size: int | None, factor: float | None
) -> float:
    """Return the largest sum of a column of the matrix along one axis, which is the
    interpolation of the identity matrix."""
    columns = interpolate(
        torch.eye(n, dtype=torch.float64)[None],
        size=size,
        scale_factor=factor,
        mode="linear" if module.mode in LINEAR else module.mode,
        align_corners=module.align_corners,
        recompute_scale_factor=module.recompute_scale_factor,
    )
    return float(columns.sum(-1).max())
