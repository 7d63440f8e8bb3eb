"""Padding layers: how often a pixel is repeated."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from ..bound import Bound, outward
from ..lipschitz_registry import register_lipschitz_rule
from ..padding_factor import padding_factor
from ..uncertifiable_module_error import UncertifiableModuleError

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
    """An isometry; cropping lessens the norm."""
    return Bound(1.0, source="constant padding")


def _register(mode: str) -> None:
    @register_lipschitz_rule(*MODES[mode])
    def repeated(module: Any, img_size: tuple[int, ...] | None) -> Bound:
        sides = module.padding
        if min(sides) < 0:
            raise UncertifiableModuleError(
                module, f"it crops before it repeats: padding = {sides}. Crop apart."
            )
        # Padding is the convolution with a single tap.
        factor = math.prod(
            padding_factor(
                mode, pair, kernel_size=1, stride=1, dilation=1, every_row=True
            )
            for pair in zip(sides[::2], sides[1::2], strict=True)
        )
        return Bound(outward(factor), source=f"{mode} padding")


for _mode in MODES:
    _register(_mode)
