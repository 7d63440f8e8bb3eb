"""Convolutions and transposed convolutions."""

from __future__ import annotations

from torch import nn

from ..bound import Bound
from ..convolution_norm import convolution_norm
from ..effective_weight import effective_weight
from ..lipschitz_registry import register_lipschitz_rule

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


@register_lipschitz_rule(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def convolution(module: Convolution, img_size: tuple[int, ...] | None) -> Bound:
    """The bound of its norm for every image size."""
    norm = convolution_norm(
        effective_weight(module),
        stride=module.stride,
        dilation=module.dilation,
        groups=module.groups,
        padding_mode=module.padding_mode,
        padding=module.padding,
    )
    return Bound(float(norm), source=f"torus norm, {module.padding_mode} padding")


@register_lipschitz_rule(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def transposed(module: Transposed, img_size: tuple[int, ...] | None) -> Bound:
    """That of its adjoint."""
    norm = convolution_norm(
        effective_weight(module),
        stride=module.stride,
        dilation=module.dilation,
        groups=module.groups,
        transposed=True,
    )
    return Bound(float(norm), source="torus norm of the adjoint")
