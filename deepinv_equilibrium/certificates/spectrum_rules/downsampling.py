"""Blur and subsampling."""

from __future__ import annotations

import torch
from deepinv.physics import Downsampling

from ..bound import Bound, Interval
from ..double_precision import double_copy
from ..linear_operator import LinearOperator
from ..spectrum import NOTHING
from ..spectrum_registry import register_spectrum_rule
from .convolution import dominated
from .decomposition import FOURIER_ROUNDING, exact


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
