"""Layers that only move numbers: isometries."""

from __future__ import annotations

from torch import nn

from ..bound import Bound
from ..lipschitz_registry import register_lipschitz_rule


@register_lipschitz_rule(
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ChannelShuffle,
)
def isometry(module: nn.Module, img_size: tuple[int, ...] | None) -> Bound:
    """The norm does not see where a number stands."""
    return Bound(1.0, source="isometry")
