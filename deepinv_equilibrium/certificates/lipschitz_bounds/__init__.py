"""Lipschitz constants of modules. Importing this package registers the rules."""

from . import (
    denoiser_rules,
    linear_rules,
    pointwise_rules,
    pooling_rules,
    upsampling_rules,
    wrapper_rules,
)
from .composition_rules import Residual
from .convolution_norms import convolution_norm
from .lipschitz_constant import lipschitz, register_lipschitz_rule

__all__ = [
    "Residual",
    "convolution_norm",
    "denoiser_rules",
    "linear_rules",
    "lipschitz",
    "pointwise_rules",
    "pooling_rules",
    "register_lipschitz_rule",
    "upsampling_rules",
    "wrapper_rules",
]
