"""Spectra of stacked and composed physics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from deepinv.physics import ComposedLinearPhysics, LinearPhysics, StackedLinearPhysics

from ..bounds import Interval, derived, outward
from .physics_operator import PhysicsOperator
from .physics_spectrum import register_spectrum_rule, spectrum


@register_spectrum_rule(StackedLinearPhysics)
def stacked(
    physics: StackedLinearPhysics, img_size: tuple[int, ...]
) -> Interval | None:
    r"""Bound :math:`A^\top A = \sum_i A_i^\top A_i` by the sums of the ends (Weyl)."""
    if physics.reduction is not sum:
        return None
    return _combined([spectrum(part, img_size) for part in physics.physics_list], sum)


@register_spectrum_rule(ComposedLinearPhysics)
def composed(
    physics: ComposedLinearPhysics, img_size: tuple[int, ...]
) -> Interval | None:
    r"""Bound :math:`\|A_2 A_1 x\|` by the products of the extreme singular values."""
    operator = PhysicsOperator.of(physics, img_size)
    x = torch.zeros(operator.shape, dtype=torch.float64, device=operator.device)
    parts = []
    for part in physics.physics_list:
        if not isinstance(part, LinearPhysics) or not isinstance(x, torch.Tensor):
            return None
        parts.append(spectrum(part, tuple(x.shape[1:])))
        x = part.A(x)
    return _combined(parts, math.prod)


def _combined(
    parts: list[Interval], combine: Callable[[Iterable[float]], float]
) -> Interval:
    """Combine the lower ends and the upper ends of intervals, by a sum or a product."""
    name = "sum" if combine is sum else "product"
    source = f"{name} over {len(parts)} operators"
    lower, upper = [p.lower for p in parts], [p.upper for p in parts]
    least = outward(combine(b.value for b in lower), is_lower=True)
    most = outward(combine(b.value for b in upper))
    return Interval(
        derived(least, lower, source, is_lower=True), derived(most, upper, source)
    )
