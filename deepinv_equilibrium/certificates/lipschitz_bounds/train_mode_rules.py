"""Batch normalisation in eval mode: a scaling of each channel."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..bounds import Bound, outward
from ..declarations import UncertifiableModuleError
from .effective_weights import effective_weight
from .lipschitz_constant import register_lipschitz_rule


@register_lipschitz_rule(
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm
)
def batch_norm(module: _BatchNorm, img_size: tuple[int, ...] | None) -> Bound:
    """The largest weight over standard deviation."""
    if module.training or module.running_var is None:
        raise UncertifiableModuleError(
            module,
            "it normalises by the statistics of the batch. Call eval(), with "
            "track_running_stats=True.",
        )
    variance = effective_weight(module, "running_var").double() + module.eps
    if not (variance > 0).all():
        raise UncertifiableModuleError(
            module, "a running variance plus eps is not positive."
        )
    scale = torch.rsqrt(variance)
    if module.affine:
        scale = scale * effective_weight(module).double().abs()
    return Bound(outward(float(scale.max())), source="largest scale of a channel")


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
