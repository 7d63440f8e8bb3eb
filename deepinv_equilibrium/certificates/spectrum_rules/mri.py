"""Magnetic resonance imaging."""

from __future__ import annotations

from deepinv.physics import MRI, DynamicMRI, MultiCoilMRI

from ..bound import Bound, Interval, outward
from ..spectrum_registry import register_spectrum_rule
from .decomposition import MASK, exact, is_default


@register_spectrum_rule(MRI, DynamicMRI)
def single_coil(physics: MRI, img_size: tuple[int, ...]) -> Interval | None:
    r"""
    :math:`A = MF` with the unitary Fourier transform of each image, on pairs of real
    numbers, and a real mask: the extremes of the squared mask.
    """
    if not (is_default(physics._U) and is_default(physics._U_adjoint)):
        return None
    if physics.mask.is_complex():
        return None
    return exact(physics.mask.double().square(), MASK)


@register_spectrum_rule(MultiCoilMRI)
def multi_coil(physics: MultiCoilMRI, img_size: tuple[int, ...]) -> Interval | None:
    r"""
    Of each image that is transformed on its own (of a sample, and of a frame where
    there are frames), :math:`A^\top A = \sum_n S_n^* F^* M^2 F S_n` lies between
    :math:`\min m^2` and :math:`\max m^2` times :math:`\sum_n |s_n|^2`, which is
    diagonal.
    """
    if physics.mask.is_complex() or physics.mask.dim() != physics.coil_maps.dim():
        return None  # by broadcasting, the axis of coils may be another
    axes = (-3, -2, -1) if physics.three_d else (-2, -1)
    mask = physics.mask.double().square()
    power = physics.coil_maps.abs().square().sum(dim=1)
    least = mask.amin(axes).amin(dim=1) * power.amin(axes)
    most = mask.amax(axes).amax(dim=1) * power.amax(axes)
    return Interval(
        Bound(
            outward(float(least.min()), is_lower=True),
            source=f"smallest {MASK} times the least power of the coils at a pixel",
            is_lower=True,
        ),
        Bound(
            outward(float(most.max())),
            source=f"largest {MASK} times the largest power of the coils at a pixel",
        ),
    )
