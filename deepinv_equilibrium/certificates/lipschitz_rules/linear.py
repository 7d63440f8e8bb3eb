"""Linear layers: the spectral norm."""

from __future__ import annotations

import torch
from torch import nn

from ..bound import Bound
from ..convolution_norm import ROUNDING
from ..effective_weight import effective_weight
from ..lipschitz_registry import register_lipschitz_rule


@register_lipschitz_rule(nn.Linear)
def linear(module: nn.Linear, img_size: tuple[int, ...] | None) -> Bound:
    """The largest singular value, in float64."""
    weight = effective_weight(module)
    if weight.numel() == 0:
        return Bound(0.0, source="no features")
    weight = weight.to(torch.complex128 if weight.is_complex() else torch.float64)
    norm = float(torch.linalg.matrix_norm(weight, 2))
    return Bound(norm * ROUNDING, source="spectral norm")
