"""Blurs with any padding."""

from __future__ import annotations

import math

import torch
from deepinv.physics import Blur, Downsampling, LinearPhysics
from torch import Tensor

from ..bounds import Bound, Interval, outward
from ..lipschitz_bounds.convolution_norms import convolution_norm
from .decomposition_rules import FOURIER_ROUNDING, TRANSFER, exact
from .double_precision import double_copy
from .nonnegative_operators import SOURCE, nonnegative
from .physics_operator import LinearOperator
from .physics_spectrum import NOTHING, register_spectrum_rule


@register_spectrum_rule(Blur)
def convolution(physics: Blur, img_size: tuple[int, ...]) -> Interval | None:
    r"""
    Each channel of each image is convolved with a kernel after it was extended over
    its border as ``padding`` says.

    Circular: the Fourier transform of the response to an impulse holds the singular
    values. Otherwise copies, sums and products with the kernel: nonnegative if it is,
    and bounded entry by entry by the operator with :math:`|k|` if it is not.
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
        # The same sums, which take long for the kernels of blurs.
        positive = Blur(
            filter=kernel.abs(),
            padding=physics.padding,
            use_fft=True,
            device=kernel.device,
        )
    else:
        positive = double_copy(physics)
        positive.filter = kernel.abs()
    # Channels are blurred apart: one is enough where they share the kernel.
    return dominated(physics, positive, (kernel.shape[1], *img_size[1:]))


def impulse_response(physics: LinearPhysics, img_size: tuple[int, ...]) -> Tensor:
    r""":math:`A\delta` of each channel, where :math:`A` is a circular convolution."""
    operator = LinearOperator.of(physics, img_size)
    impulse = torch.zeros(operator.shape, dtype=torch.float64, device=operator.device)
    impulse.flatten(2)[..., 0] = 1
    return physics.A(impulse)


def dominated(
    physics: LinearPhysics,
    positive: LinearPhysics,
    img_size: tuple[int, ...],
) -> Interval:
    r"""
    From 0 to the Collatz-Wielandt bound with :math:`|k|`, or for a signed kernel to
    that from its transfer function if that is less.

    :param deepinv.physics.LinearPhysics physics: a convolution with ``filter`` and
        ``padding``, followed or not by a selection of pixels.
    :param deepinv.physics.LinearPhysics positive: the same with the absolute kernel.
    :param tuple img_size: size of an image.
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
    Bound of the error of an entry of :math:`A^\top A v`, relative to the largest of
    :math:`v`, where both are computed by Fourier transforms of the extended image.

    The 2-norm of the error of a product is a multiple of the roundoff times
    :math:`\|k\|_1` and the norm of the other factor; the transposed extension adds up
    to :math:`1 + h/2` rows and :math:`1 + w/2` columns in one pixel.
    """
    extended = math.prod(
        n + k for n, k in zip(img_size[1:], kernel.shape[2:], strict=True)
    )
    folds = math.prod(1 + k // 2 for k in kernel.shape[2:])
    mass = float(kernel.abs().sum(dim=tuple(range(2, kernel.ndim))).max())
    return FOURIER_ROUNDING * mass**2 * math.sqrt(extended) * folds


def transfer_bound(kernel: Tensor, padding: str) -> Bound:
    r"""
    :math:`\sup_\omega |\hat k(\omega)|^2`, times what the extension adds: the image is
    extended no further than the kernel reaches from its middle, on either side.
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
    Without filter, a selection of pixels. With circular padding and a factor that
    divides the image, :math:`A A^\top` is a circular convolution of the small image,
    and has the nonzero spectrum of :math:`A^\top A`. Otherwise as for a blur, whose
    pixels are then selected.
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
    batch, channels, *_ = LinearOperator.of(physics, img_size).shape
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
