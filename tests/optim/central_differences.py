"""Directional derivatives by central differences."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


@torch.no_grad()
def directional_derivative(
    loss: Callable[[], Tensor], leaf: Tensor, direction: Tensor, step: float = 1e-5
) -> float:
    """Return the derivative of a loss that depends on a leaf, which is restored."""
    values = []
    for change in (step, -step):
        leaf += change * direction
        values.append(float(loss()))
        leaf -= change * direction
    return (values[0] - values[1]) / (2 * step)
