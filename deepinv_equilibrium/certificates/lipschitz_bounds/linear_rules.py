"""Linear layers, convolutions and padding, bounded by their operator norms."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ..bounds import Bound, outward
from ..declarations import UncertifiableModuleError
from .convolution_norms import (
    ROUNDING,
    axis_values,
    convolution_norm,
    padded_sides,
)
from .lipschitz_constant import effective_weight, register_lipschitz_rule
from .padding import padding_factor


@register_lipschitz_rule(nn.Linear)
def linear(module: nn.Linear, img_size: tuple[int, ...] | None) -> Bound:
    """Bound a linear layer by its largest singular value, computed in float64."""
    weight = effective_weight(module)
    if weight.numel() == 0:
        return Bound(0.0, source="no features")
    weight = weight.to(torch.complex128 if weight.is_complex() else torch.float64)
    norm = float(torch.linalg.matrix_norm(weight, 2))
    return Bound(norm * ROUNDING, source="spectral norm")


Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


@register_lipschitz_rule(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def convolution(module: Convolution, img_size: tuple[int, ...] | None) -> Bound:
    """Bound a convolution by a bound of its norm for every image size."""
    return norm_of_columns(module, None)


def norm_of_columns(module: Convolution, columns: int | None) -> Bound:
    r"""
    Return a bound of the norm of a convolution in some channels of its input.

    :param torch.nn.Module module: the convolution; with ``columns``, of one group.
    :param int columns: number of channels that count, the first ones; ``None`` for all.
    :return: the bound.
    """
    norm = convolution_norm(
        effective_weight(module)[:, :columns],
        stride=module.stride,
        dilation=module.dilation,
        groups=module.groups,
        padding_mode=module.padding_mode,
        padding=added_sides(module),
    )
    return Bound(float(norm), source=f"torus norm, {module.padding_mode} padding")


def added_sides(module: Convolution) -> list[tuple[int, int]]:
    r"""
    Return the pixels that ``forward`` of a convolution adds before and behind each
    axis.

    :param torch.nn.Module module: the convolution.
    :return: (list) a pair for each axis. Modes other than zeros read a copy of
        ``padding`` that torch made when it built the layer.
    """
    if module.padding_mode != "zeros":
        flat: Any = module._reversed_padding_repeated_twice
        return list(zip(flat[::2], flat[1::2], strict=True))[::-1]
    taps = tuple(module.weight.shape[2:])
    dilations = axis_values("dilation", module.dilation, len(taps), least=1)
    return padded_sides(module.padding, taps, dilations)


def keeps_size(module: Convolution) -> bool:
    r"""
    Return whether the output of a convolution has the size of its input, for every
    size.

    :param torch.nn.Module module: the convolution.
    """
    taps = tuple(module.weight.shape[2:])
    dilations = axis_values("dilation", module.dilation, len(taps), least=1)
    totals = [d * (k - 1) for d, k in zip(dilations, taps, strict=True)]
    strides = axis_values("stride", module.stride, len(taps), least=1)
    return max(strides) == 1 and [sum(s) for s in added_sides(module)] == totals


@register_lipschitz_rule(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def transposed(module: Transposed, img_size: tuple[int, ...] | None) -> Bound:
    """Bound a transposed convolution by the bound of its adjoint."""
    norm = convolution_norm(
        effective_weight(module),
        stride=module.stride,
        dilation=module.dilation,
        groups=module.groups,
        transposed=True,
    )
    return Bound(float(norm), source="torus norm of the adjoint")


CONSTANT = (
    *(nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
)
MODES: dict[str, tuple[type[nn.Module], ...]] = {
    "replicate": (nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
    "reflect": (nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
    "circular": (nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
}


@register_lipschitz_rule(*CONSTANT)
def constant(module: nn.Module, img_size: tuple[int, ...] | None) -> Bound:
    """Bound constant padding, an isometry; cropping does not increase the norm."""
    return Bound(1.0, source="constant padding")


def _register(mode: str) -> None:
    @register_lipschitz_rule(*MODES[mode])
    def repeated(module: Any, img_size: tuple[int, ...] | None) -> Bound:
        sides = module.padding
        if min(sides) < 0:
            raise UncertifiableModuleError(
                module, f"it crops before it repeats: padding = {sides}. Crop apart."
            )
        # Padding is a convolution with a single tap.
        factor = math.prod(
            padding_factor(
                mode, pair, kernel_size=1, stride=1, dilation=1, every_row=True
            )
            for pair in zip(sides[::2], sides[1::2], strict=True)
        )
        return Bound(outward(factor), source=f"{mode} padding")


for _mode in MODES:
    _register(_mode)
