"""Spectra of blurs with any padding, and of downsampling."""

from __future__ import annotations

import math

import torch
from deepinv.physics import Blur, Downsampling, LinearPhysics, SpaceVaryingBlur
from torch import Tensor

from ..bounds import Bound, Interval, outward
from ..lipschitz_bounds.convolution_norms import convolution_norm
from .decomposition_rules import FOURIER_ROUNDING, TRANSFER, exact
from .double_precision import double_copy
from .nonnegative_operators import SOURCE, nonnegative
from .physics_operator import PhysicsOperator
from .physics_spectrum import NOTHING, register_spectrum_rule


@register_spectrum_rule(Blur)
def blur(physics: Blur, img_size: tuple[int, ...]) -> Interval | None:
    r"""
    Bound a blur, which extends each channel as ``padding`` says and convolves it with a
    kernel :math:`k`.

    With circular padding, the singular values are the moduli of the Fourier transform
    of the response to an impulse. With another padding, the operator consists of
    copies, sums and products with the entries of the kernel. It is nonnegative if the
    kernel is; otherwise the operator with :math:`|k|` bounds it entry by entry.
    """
    kernel = physics.filter
    if kernel.is_complex():
        return None
    if physics.padding == "circular":
        response = impulse_response(physics, img_size)
        axes = tuple(range(2, response.ndim))
        error = FOURIER_ROUNDING * response.abs().sum(dim=axes, keepdim=True)
        values = torch.fft.fftn(response, dim=axes).abs()
        return exact(values.square(), TRANSFER, rounding=error * (2 * values + error))
    if kernel.ndim == 4 and not physics.use_fft:
        # The Fourier transform computes the same operator faster.
        positive = Blur(
            filter=kernel.abs(),
            padding=physics.padding,
            use_fft=True,
            device=kernel.device,
        )
    else:
        positive = double_copy(physics)
        positive.filter = kernel.abs()
    # Channels are blurred separately: one is enough if they share the kernel.
    return dominated(physics, positive, (kernel.shape[1], *img_size[1:]))


def impulse_response(physics: LinearPhysics, img_size: tuple[int, ...]) -> Tensor:
    r"""Return the impulse response :math:`A\delta` of a circular convolution for each
    channel."""
    operator = PhysicsOperator.of(physics, img_size)
    impulse = torch.zeros(operator.shape, dtype=torch.float64, device=operator.device)
    impulse.flatten(2)[..., 0] = 1
    return physics.A(impulse)


def dominated(
    physics: LinearPhysics,
    positive: LinearPhysics,
    img_size: tuple[int, ...],
) -> Interval:
    r"""
    Return the interval from 0 to the Collatz-Wielandt bound with the kernel
    :math:`|k|`; for a signed kernel, the bound of the transfer function is used if it
    is smaller.

    :param deepinv.physics.LinearPhysics physics: a convolution with ``filter`` and
        ``padding``, possibly followed by a selection of pixels.
    :param deepinv.physics.LinearPhysics positive: the same operator with :math:`|k|`.
    :param tuple img_size: size of an image without the batch.
    :return: the interval.
    """
    kernel = physics.filter
    signed = bool((kernel < 0).any())
    interval = nonnegative(
        positive,
        img_size,
        source=f"{SOURCE} with the absolute kernel" if signed else SOURCE,
        rounding=fourier_rounding(kernel, img_size),
    )
    if not signed:
        return interval
    upper = transfer_bound(kernel, physics.padding)
    return (
        interval
        if interval.upper.value <= upper.value
        else Interval(interval.lower, upper)
    )


def fourier_rounding(kernel: Tensor, img_size: tuple[int, ...]) -> float:
    r"""
    Return a bound of the error of an entry of :math:`A^\top A v`, relative to the
    largest entry of :math:`v`, if both products are computed by Fourier transforms of
    the extended image.

    The 2-norm of the error of a product is at most a multiple of the roundoff times
    :math:`\|k\|_1` and the norm of the image. The transposed extension adds up to
    :math:`1 + h/2` rows and :math:`1 + w/2` columns in one pixel.

    :param torch.Tensor kernel: the kernel :math:`k`, of size :math:`h \times w`.
    :param tuple img_size: size of an image without the batch.
    :return: the bound.
    """
    extended = math.prod(
        n + k for n, k in zip(img_size[1:], kernel.shape[2:], strict=True)
    )
    folds = math.prod(1 + k // 2 for k in kernel.shape[2:])
    mass = float(kernel.abs().sum(dim=tuple(range(2, kernel.ndim))).max())
    return FOURIER_ROUNDING * mass**2 * math.sqrt(extended) * folds


def transfer_bound(kernel: Tensor, padding: str) -> Bound:
    r"""
    Return the bound :math:`\sup_\omega |\hat k(\omega)|^2` times the squared norm of
    the extension, which adds at most half the kernel on each side.

    :param torch.Tensor kernel: the kernel :math:`k`.
    :param str padding: padding of the blur.
    :return: the bound of the spectrum.
    """
    sides = [0 if padding == "valid" else k // 2 for k in kernel.shape[2:]]
    stack = kernel.reshape(-1, 1, *kernel.shape[2:])
    norm = convolution_norm(
        stack,
        groups=len(stack),
        padding_mode="zeros" if padding in ("valid", "constant") else padding,
        padding=sides,
    )
    return Bound(
        outward(float(norm) ** 2),
        source=f"transfer function of the kernel, {padding} padding",
    )


@register_spectrum_rule(Downsampling)
def downsampling(physics: Downsampling, img_size: tuple[int, ...]) -> Interval | None:
    r"""
    Bound downsampling. Without a filter it is a selection of pixels. With circular
    padding and a factor that divides the size of the image, :math:`A A^\top` is a
    circular convolution of the small image and has the nonzero spectrum of
    :math:`A^\top A`. In all other cases it is bounded like the blur that precedes the
    selection.
    """
    kernel, factor = physics.filter, int(physics.factor)
    if kernel is None:
        return exact(
            torch.tensor([1.0, float(factor == 1)], dtype=torch.float64),
            "value of a selection of pixels",
        )
    if kernel.is_complex():
        return None
    divides = all(n % factor == 0 for n in img_size[-2:])
    if physics.padding != "circular" or not divides:
        positive = double_copy(physics)
        positive.filter = kernel.abs()
        return dominated(physics, positive, img_size)
    batch, channels, *_ = PhysicsOperator.of(physics, img_size).shape
    small = [n // factor for n in img_size[-2:]]
    impulse = torch.zeros(batch, channels, *small, dtype=kernel.dtype).to(kernel.device)
    impulse[..., 0, 0] = 1
    response = physics.A(physics.A_adjoint(impulse))
    mass = float(kernel.abs().sum(dim=(-2, -1)).max())
    upper = exact(
        torch.fft.fft2(response).real.clamp(min=0),
        "value of the transfer function of the aliased blur",
        rounding=FOURIER_ROUNDING * mass**2,
    ).upper
    return Interval(NOTHING, Bound(upper.value, source=upper.source))


@register_spectrum_rule(SpaceVaryingBlur)
def space_varying_blur(
    physics: SpaceVaryingBlur, img_size: tuple[int, ...]
) -> Interval | None:
    r"""Bound :math:`x \mapsto \sum_k h_k * (w_k \odot x)`, or with the multipliers
    :math:`w_k` after the convolutions, by the operator with :math:`|h_k|` and
    :math:`|w_k|`, which is the operator itself if they are nonnegative."""
    filters, multipliers = physics.filters, physics.multipliers
    if filters.is_complex() or multipliers.is_complex():
        return None
    positive = double_copy(physics)
    positive.filters, positive.multipliers = filters.abs(), multipliers.abs()
    signed = bool((filters < 0).any() or (multipliers < 0).any())
    peaks = positive.multipliers.amax(dim=(-2, -1), keepdim=True)
    kernel = (positive.filters * peaks).sum(dim=2)
    return nonnegative(
        positive,
        img_size,
        source=f"{SOURCE} with absolute filters and multipliers" if signed else SOURCE,
        rounding=fourier_rounding(kernel, img_size) if physics.use_fft else 0.0,
    )
