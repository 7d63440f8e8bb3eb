"""Spectra of stacked and composed physics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from deepinv.physics import ComposedLinearPhysics, LinearPhysics, StackedLinearPhysics
from torch import Tensor

from ..bounds import Interval, derived, outward
from .decomposition_rules import MASK, diagonal, exact, single_coil
from .nonnegative_operators import nonnegative
from .nonnegative_parts import nonnegative_copy
from .physics_operator import PhysicsOperator
from .physics_spectrum import register_spectrum_rule, spectrum, spectrum_rule_of


@register_spectrum_rule(StackedLinearPhysics)
def stacked(
    physics: StackedLinearPhysics, img_size: tuple[int, ...]
) -> Interval | None:
    r"""
    Bound :math:`A^\top A = \sum_i A_i^\top A_i`. Parts that are diagonal in one basis
    are one diagonal operator, with the sums of the squared masks. The ends of the
    intervals are added (Weyl). If all entries are nonnegative, the Collatz-Wielandt
    quotient of the sum is used where it is smaller.
    """
    if physics.reduction is not sum:
        return None
    groups: dict[object, Tensor] = {}
    intervals = []
    for part in physics.physics_list:
        found = squared_mask(part)
        if found is None:
            intervals.append(spectrum(part, img_size))
            continue
        basis, squares = found
        groups[basis] = groups[basis] + squares if basis in groups else squares
    count = len(physics.physics_list)
    name = MASK if count == 1 else f"sum of squared entries of {count} masks"
    intervals += [exact(squares, name) for squares in groups.values()]
    if len(intervals) == 1:
        return intervals[0]
    return _smaller(_combined(intervals, sum), physics, img_size)


@register_spectrum_rule(ComposedLinearPhysics)
def composed(
    physics: ComposedLinearPhysics, img_size: tuple[int, ...]
) -> Interval | None:
    r"""
    Bound :math:`\|A_2 A_1 x\|` by the products of the extreme singular values. If all
    entries are nonnegative, the Collatz-Wielandt quotient of the composition is used
    where it is smaller.
    """
    operator = PhysicsOperator.of(physics, img_size)
    x = torch.zeros(operator.shape, dtype=torch.float64, device=operator.device)
    parts = []
    for part in physics.physics_list:
        if not isinstance(part, LinearPhysics) or not isinstance(x, torch.Tensor):
            return None
        parts.append(spectrum(part, tuple(x.shape[1:])))
        x = part.A(x)
    return _smaller(_combined(parts, math.prod), physics, img_size)


def squared_mask(physics: LinearPhysics) -> tuple[object, Tensor] | None:
    r"""
    Return the basis in which :math:`A^\top A` is diagonal, and its diagonal.

    :param deepinv.physics.LinearPhysics physics: the physics, in double precision.
    :return: a name that two physics share if they are diagonal in the same basis, and
        the squared mask; ``None`` for other physics.
    """
    rule = spectrum_rule_of(physics)
    if rule is diagonal and diagonal(physics, ()) is not None:
        return "pixels", physics.mask.square()
    if rule is single_coil and not physics.mask.is_complex():
        basis = ("Fourier", type(physics), physics.three_d, physics.mask.shape)
        return basis, physics.mask.square()
    return None


def _smaller(
    interval: Interval, physics: LinearPhysics, img_size: tuple[int, ...]
) -> Interval:
    """Return an interval with the Collatz-Wielandt quotient of the whole operator as
    its upper end, if that is smaller and all entries are nonnegative."""
    positive = nonnegative_copy(physics, img_size)
    if positive is None:
        return interval
    upper = nonnegative(positive, img_size).upper
    if upper.value >= interval.upper.value and interval.upper.is_certified:
        return interval
    return Interval(interval.lower, upper)


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
