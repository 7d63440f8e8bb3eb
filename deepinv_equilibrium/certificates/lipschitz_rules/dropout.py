"""Dropout: the identity in eval mode, random in train mode."""

from __future__ import annotations

from torch import nn

from ..bound import Bound
from ..lipschitz_registry import register_lipschitz_rule
from ..uncertifiable_module_error import UncertifiableModuleError


@register_lipschitz_rule(
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
def dropout(module: nn.Dropout, img_size: tuple[int, ...] | None) -> Bound:
    """1 where nothing is dropped."""
    if module.training and module.p > 0:
        raise UncertifiableModuleError(
            module, "it is random in train mode. Call eval()."
        )
    return Bound(1.0, source="dropout in eval mode")
