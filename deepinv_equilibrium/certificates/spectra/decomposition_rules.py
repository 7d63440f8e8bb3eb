"""Spectra of physics whose singular values are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

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
from .physics_operator import PhysicsOperator, norm
from .physics_spectrum import register_spectrum_rule

MASK = "squared entry of the mask"
TRANSFER = "squared value of the transfer function"
# Bound of the error of a value of a Fourier transform, relative to the sum of moduli: a
# large multiple of the unit roundoff times the logarithm of the size.
FOURIER_ROUNDING = 1e-13


def exact(squares: Tensor, source: str, *, rounding: Tensor | float = 0.0) -> Interval:
    r"""
    Return the interval from the smallest to the largest eigenvalue.

    :param torch.Tensor squares: all eigenvalues of :math:`A^\top A`, in float64.
    :param str source: source of an eigenvalue, for the bounds.
    :param torch.Tensor, float rounding: bounds of the absolute errors of the
        eigenvalues, in addition to a relative error of 1e-12. Default: 0.
    :return: the interval.
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
    Bound :math:`A = U \operatorname{diag}(s) V^\top` by the extremes of :math:`s^2` if
    :math:`U` and :math:`V` are the identity. Transforms of a user may not be
    orthogonal.
    """
    transforms = (physics._U, physics._U_adjoint, physics._V, physics._V_adjoint)
    if not all(map(is_default, transforms)) or physics.mask.is_complex():
        return None
    mask = physics.mask.double()
    return exact(mask.square(), MASK)


def is_default(transform: Callable[..., Tensor] | None) -> bool:
    """Return whether a transform is the default of DecomposablePhysics, the
    identity."""
    return (
        getattr(transform, "__module__", None) == DecomposablePhysics.__module__
        and getattr(transform, "__qualname__", None)
        == f"{DecomposablePhysics.__init__.__qualname__}.<locals>.<lambda>"
    )


def is_isometry(operator: PhysicsOperator) -> bool:
    r"""
    Return whether :math:`V V^\top x = x` and :math:`\|V^\top x\| = \|x\|` for a random
    image, up to rounding. The class of a decomposition alone does not prove it.

    :param PhysicsOperator operator: the operator of a
        :class:`deepinv.physics.DecomposablePhysics`.
    :return: whether both are true.
    """
    physics = cast(DecomposablePhysics, operator.physics)
    x = operator.random_image(torch.Generator().manual_seed(2))
    image = physics.V_adjoint(x)
    rounding = 1e3 * torch.finfo(operator.dtype).eps * norm(x)
    return (
        norm(physics.V(image) - x) <= rounding
        and abs(norm(image) - norm(x)) <= rounding
    )


@register_spectrum_rule(BlurFFT)
def blur_fft(physics: BlurFFT, img_size: tuple[int, ...]) -> Interval | None:
    r"""
    Bound BlurFFT. :math:`A` multiplies the Fourier transform by a mask and a phase that
    were computed in the precision of the physics. Because the modulus of the phase is
    rounded, ``A_adjoint(A(x))`` multiplies by the squared modulus of their product, and
    ``A_adjoint_A`` by the squared mask. The interval holds for both, and for the
    transform of the filter in float64.
    """
    mask, phase = physics.mask[..., 0], physics.angle
    if not torch.equal(mask, physics.mask[..., 1]):
        return None  # a user's mask may treat real and imaginary parts differently
    stored = mask * phase
    # Some columns are mirror images of themselves. The inverse real transform reads
    # only the Hermitian part of their product.
    columns = [0, stored.shape[-1] - 1] if img_size[-1] % 2 == 0 else [0]
    for column in columns:
        values = stored[..., column]
        mirrored = values.flip(-1).roll(1, -1).conj()
        stored[..., column] = (values + mirrored) / 2
    exact_values = filter_fft(physics.filter, img_size, dims=(-2, -1), real_fft=True)
    values = torch.stack([stored.abs(), mask.abs(), exact_values.abs()])
    error = FOURIER_ROUNDING * physics.filter.abs().sum(dim=(-2, -1), keepdim=True)
    return exact(values.square(), TRANSFER, rounding=error * (2 * values + error))


@register_spectrum_rule(Decolorize)
def decolorize(physics: Decolorize, img_size: tuple[int, ...]) -> Interval | None:
    r"""Bound :math:`A^\top A = s s^\top` at each pixel by :math:`\|s\|^2`, for the
    spectral response :math:`s`."""
    if not (is_default(physics._U) and is_default(physics._U_adjoint)):
        return None
    squares = physics.srf.square().sum().reshape(1)
    if img_size[0] > 1:
        squares = torch.cat([squares, squares.new_zeros(1)])
    return exact(squares, "squared norm of the spectral response")


@register_spectrum_rule(MRI, DynamicMRI)
def single_coil(physics: MRI, img_size: tuple[int, ...]) -> Interval | None:
    r"""
    Bound :math:`A = MF` by the extremes of the squared mask, for the unitary Fourier
    transform :math:`F` of each image, on pairs of real numbers, and a real mask
    :math:`M`.
    """
    if not (is_default(physics._U) and is_default(physics._U_adjoint)):
        return None
    if physics.mask.is_complex() or not is_isometry(
        PhysicsOperator.of(physics, img_size)
    ):
        return None
    return exact(physics.mask.double().square(), MASK)


@register_spectrum_rule(MultiCoilMRI)
def multi_coil(physics: MultiCoilMRI, img_size: tuple[int, ...]) -> Interval | None:
    r"""
    Bound MRI with coil maps :math:`s_n`. For each sample, and for each frame of a
    dynamic image, :math:`A^\top A = \sum_n S_n^* F^* M^2 F S_n` lies between
    :math:`\min m^2` and :math:`\max m^2` times the diagonal operator
    :math:`\sum_n |s_n|^2`.
    """
    if physics.mask.is_complex() or physics.mask.dim() != physics.coil_maps.dim():
        return None  # broadcasting may align the coils with another axis
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
