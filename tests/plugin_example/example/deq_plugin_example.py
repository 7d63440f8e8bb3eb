"""A denoiser that another distribution offers to ``deepinv_equilibrium``."""

from __future__ import annotations

import torch
from deepinv.models import Denoiser


class WienerDenoiser(Denoiser):
    r"""
    The posterior mean of :math:`x \sim \mathcal{N}(0, s^2 I)` in white noise.

    .. math::

        D_\sigma(x) = \frac{s^2}{s^2 + \sigma^2}\, x

    :param float signal_std: standard deviation :math:`s` of the image.
    """

    def __init__(self, signal_std: float = 1.0) -> None:
        super().__init__()
        self.signal_std = signal_std

    def forward(
        self, x: torch.Tensor, sigma: float | torch.Tensor, **kwargs: object
    ) -> torch.Tensor:
        return x / (1 + (sigma / self.signal_std) ** 2)
