"""Physics whose singular values are known."""

from __future__ import annotations

from collections.abc import Callable

import torch
from deepinv.physics import (
    MRI,
    BlurFFT,
    Decolorize,
    DecomposablePhysics,
    Denoising,
    DynamicMRI,
    Inpainting,
    MultiCoilMRI,
)
from deepinv.physics.functional import filter_fft
from torch import Tensor

from ..bounds import Bound, Interval, outward
from .physics_spectrum import register_spectrum_rule

MASK = "squared entry of the mask"
TRANSFER = "squared value of the transfer function"
# Error of a value of a Fourier transform, relative to the sum of the moduli: a generous
# multiple of the unit roundoff times the logarithm of the size.
FOURIER_ROUNDING = 1e-13


def exact(squares: Tensor, source: str, *, rounding: Tensor | float = 0.0) -> Interval:
    r"""
    The interval between the smallest and the largest of the eigenvalues.

    :param torch.Tensor squares: all eigenvalues of :math:`A^\top A`, in float64.
    :param str source: what they are.
    :param torch.Tensor, float rounding: their absolute errors, beyond a relative one
        of 1e-12.
    """
    smallest = float((squares - rounding).min().clamp(min=0))
    largest = float((squares + rounding).max())
    return Interval(
        Bound(
            outward(smallest, is_lower=True),
            source=f"smallest {source}",
            is_lower=True,
        ),
        Bound(outward(largest), source=f"largest {source}"),
    )


@register_spectrum_rule(DecomposablePhysics, Inpainting, Denoising)
def diagonal(
    physics: DecomposablePhysics, img_size: tuple[int, ...]
) -> Interval | None:
    r"""
    :math:`A = \operatorname{diag}(s)`: the extremes of :math:`s^2`, where :math:`U` and
    :math:`V` are the identity. Transforms of the user's may not be orthogonal.
    """
    transforms = (physics._U, physics._U_adjoint, physics._V, physics._V_adjoint)
    if not all(map(is_default, transforms)) or physics.mask.is_complex():
        return None
    mask = physics.mask.double()
    return exact(mask.square(), MASK)


def is_default(transform: Callable[..., Tensor] | None) -> bool:
    """Whether a transform is the identity that DecomposablePhysics sets by default."""
    return (
        getattr(transform, "__module__", None) == DecomposablePhysics.__module__
        and getattr(transform, "__qualname__", None)
        == f"{DecomposablePhysics.__init__.__qualname__}.<locals>.<lambda>"
    )


@register_spectrum_rule(BlurFFT)
def blur_fft(physics: BlurFFT, img_size: tuple[int, ...]) -> Interval | None:
    r"""
    :math:`A` multiplies the Fourier transform by the mask times the phase, which were
    computed in the precision of the physics: the interval holds both for these and
    for the transform of the filter in float64.
    """
    mask, phase = physics.mask[..., 0], physics.angle
    if not torch.equal(mask, physics.mask[..., 1]):
        return None  # set by hand, it may multiply real and imaginary parts apart
    stored = mask * phase
    # The inverse real transform reads the columns that are their own mirror images
    # only through the Hermitian part of their product.
    columns = [0, stored.shape[-1] - 1] if img_size[-1] % 2 == 0 else [0]
    for column in columns:
        values = stored[..., column]
        mirrored = values.flip(-1).roll(1, -1).conj()
        stored[..., column] = (values + mirrored) / 2
    exact_values = filter_fft(physics.filter, img_size, dims=(-2, -1), real_fft=True)
    values = torch.stack([stored.abs(), exact_values.abs()])
    error = FOURIER_ROUNDING * physics.filter.abs().sum(dim=(-2, -1), keepdim=True)
    return exact(values.square(), TRANSFER, rounding=error * (2 * values + error))


@register_spectrum_rule(Decolorize)
def decolorize(physics: Decolorize, img_size: tuple[int, ...]) -> Interval | None:
    r""":math:`A^\top A = s s^\top` at each pixel, for a spectral response :math:`s`."""
    if not (is_default(physics._U) and is_default(physics._U_adjoint)):
        return None
    squares = physics.srf.square().sum().reshape(1)
    if img_size[0] > 1:
        squares = torch.cat([squares, squares.new_zeros(1)])
    return exact(squares, "squared norm of the spectral response")


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
