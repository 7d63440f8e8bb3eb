"""Lipschitz constants of modules; importing this registers the rules of layers."""

from . import (
    activation_rules,
    composition_rules,
    linear_rules,
    pooling_rules,
    train_mode_rules,
    upsampling_rules,
)

__all__ = [
    "activation_rules",
    "composition_rules",
    "linear_rules",
    "pooling_rules",
    "train_mode_rules",
    "upsampling_rules",
]
