"""Tomography with an exact adjoint."""

from __future__ import annotations

from deepinv.physics import Tomography

from ..bound import Interval
from ..spectrum_registry import register_spectrum_rule
from .nonnegative import nonnegative


@register_spectrum_rule(Tomography)
def tomography(physics: Tomography, img_size: tuple[int, ...]) -> Interval | None:
    """Sums of bilinear interpolations, whose weights are nonnegative, over a norm."""
    if not (physics.adjoint_via_backprop or physics.fan_beam):
        return None
    if physics.normalize and not float(physics.operator_norm) > 0:
        return None
    return nonnegative(physics, img_size)
