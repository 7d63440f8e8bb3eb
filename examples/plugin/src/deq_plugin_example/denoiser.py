"""A denoiser with a certified Lipschitz constant."""

from __future__ import annotations

import math

import torch
from deepinv.models import Denoiser
from torch import Tensor

from deepinv_equilibrium.certificates import Bound


class WienerDenoiser(Denoiser):
    r"""
    The posterior mean of smooth Gaussian images in white noise.

    For images :math:`x \sim \mathcal{N}(m, s^2 (I + \ell^2 \Delta)^{-1})`, with the
    periodic discrete Laplacian :math:`\Delta \succeq 0`, it is a filter,

    .. math::

        \operatorname{D}_\sigma(x) = m + c\, F^* g_\sigma F (x - m), \qquad
        g_\sigma(\omega) = \frac{b(\omega)}{b(\omega) + \sigma^2}, \qquad
        b(\omega) = \frac{s^2}{1 + \ell^2 \Delta(\omega)},

    with :math:`c = 1`. With :math:`c < 1` it contracts.

    :param float signal_std: standard deviation :math:`s > 0` of the images.
    :param float correlation: length :math:`\ell \geq 0` in pixels over which pixels
        resemble each other.
    :param float mean: mean :math:`m` of the images.
    :param float contraction: :math:`c` in (0, 1].
    """

    def __init__(
        self,
        signal_std: float = 1.0,
        correlation: float = 1.0,
        mean: float = 0.5,
        contraction: float = 1.0,
    ) -> None:
        super().__init__()
        if not (signal_std > 0 and correlation >= 0 and 0 < contraction <= 1):
            raise ValueError(
                "signal_std must be positive, correlation must not be negative, and "
                f"contraction must be in (0, 1], got {signal_std}, {correlation} and "
                f"{contraction}."
            )
        self.signal_std = signal_std
        self.correlation = correlation
        self.mean = mean
        self.contraction = contraction

    def forward(self, x: Tensor, sigma: float | Tensor, **kwargs: object) -> Tensor:
        r"""
        Denoise a batch of images.

        :param torch.Tensor x: images of shape :math:`(B, C, H, W)`.
        :param float, torch.Tensor sigma: noise level, one number or one for each image.
        :return: (:class:`torch.Tensor`) images of the same shape.
        """
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        rows, columns = (
            2 - 2 * torch.cos(2 * math.pi * torch.fft.fftfreq(n, device=x.device))
            for n in x.shape[-2:]
        )
        laplacian = (rows[:, None] + columns).to(x.dtype)
        power = self.signal_std**2 / (1 + self.correlation**2 * laplacian)
        gain = self.contraction * power / (power + level.reshape(-1, 1, 1, 1) ** 2)
        return self.mean + torch.fft.ifft2(gain * torch.fft.fft2(x - self.mean)).real

    @property
    def is_firmly_nonexpansive(self) -> bool:
        """Whether c g is in [0, 1]: a symmetric filter with eigenvalues between 0 and 1
        is firmly nonexpansive."""
        return 0 <= self.contraction <= 1

    def lipschitz_bound(self, img_size: tuple[int, ...] | None = None) -> Bound:
        """Return the Lipschitz constant, for every noise level and image size."""
        return Bound(self.contraction, source="largest gain of the filter")
