"""Physics made of physics."""

from __future__ import annotations

import math

import torch
from deepinv.physics import ComposedLinearPhysics, LinearPhysics, StackedLinearPhysics

from ..bounds import Interval, derived, outward
from .physics_operator import LinearOperator
from .physics_spectrum import register_spectrum_rule, spectrum


@register_spectrum_rule(StackedLinearPhysics)
def stacked(
    physics: StackedLinearPhysics, img_size: tuple[int, ...]
) -> Interval | None:
    r""":math:`A^\top A = \sum_i A_i^\top A_i`: the ends add up (Weyl)."""
    if physics.reduction is not sum:
        return None
    parts = [spectrum(part, img_size) for part in physics.physics_list]
    return Interval(
        derived(
            outward(sum(part.lower.value for part in parts), is_lower=True),
            [part.lower for part in parts],
            f"sum over {len(parts)} operators",
            is_lower=True,
        ),
        derived(
            outward(sum(part.upper.value for part in parts)),
            [part.upper for part in parts],
            f"sum over {len(parts)} operators",
        ),
    )


@register_spectrum_rule(ComposedLinearPhysics)
def composed(
    physics: ComposedLinearPhysics, img_size: tuple[int, ...]
) -> Interval | None:
    r"""
    :math:`\|A_2 A_1 x\|` is between the products of the extreme singular values.
    """
    operator = LinearOperator.of(physics, img_size)
    x = torch.zeros(operator.shape, dtype=torch.float64, device=operator.device)
    parts = []
    for part in physics.physics_list:
        if not isinstance(part, LinearPhysics) or not isinstance(x, torch.Tensor):
            return None
        parts.append(spectrum(part, tuple(x.shape[1:])))
        x = part.A(x)
    return Interval(
        derived(
            outward(math.prod(part.lower.value for part in parts), is_lower=True),
            [part.lower for part in parts],
            f"product over {len(parts)} operators",
            is_lower=True,
        ),
        derived(
            outward(math.prod(part.upper.value for part in parts)),
            [part.upper for part in parts],
            f"product over {len(parts)} operators",
        ),
    )
