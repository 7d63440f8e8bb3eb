"""Components that another distribution offers to ``deepinv_equilibrium``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from deepinv.models import Denoiser
from torch import Tensor

from deepinv_equilibrium.fixed_points import (
    Adjoint,
    Cotangent,
    FixedPointSolver,
    Iteration,
    Recording,
    Report,
    StateLayout,
)


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


@dataclass(frozen=True, kw_only=True)
class BarzilaiBorwein(FixedPointSolver):
    r"""
    Relaxed iteration :math:`x_{k+1} = x_k - \alpha_k g_k`, :math:`g_k = x_k - f(x_k)`,
    with the step size :math:`\alpha_k = \|s\|^2 / \langle s, d \rangle` of Barzilai and
    Borwein, :math:`s = x_k - x_{k-1}`, :math:`d = g_k - g_{k-1}`.
    """

    def begin(self, x0: Tensor, layout: StateLayout) -> Iteration:
        return _BarzilaiBorweinIteration(x0)


class _BarzilaiBorweinIteration(Iteration):
    def __init__(self, x0: Tensor) -> None:
        self.x, self.g = x0, torch.zeros_like(x0)
        self.known = torch.zeros(len(x0), dtype=torch.bool)

    def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
        g = x - value
        s, d = x - self.x, g - self.g
        alpha = (s * s).sum(1) / (s * d).sum(1)
        usable = self.known & (alpha > 0) & alpha.isfinite()
        self.x, self.g, self.known = x, g, active
        return x - torch.where(usable, alpha, 1.0)[:, None] * g

    def forget(self, where: Tensor) -> None:
        self.known = self.known & ~where


@dataclass(frozen=True)
class RateCorrected(Adjoint):
    r"""
    The Jacobian-free gradient divided by :math:`1 - \rho`, exact if
    :math:`J = \rho I`.

    :param float rate: :math:`\rho`, in :math:`[0, 1)`.
    """

    rate: float

    def transform(
        self, recording: Recording, cotangent: Cotangent
    ) -> tuple[Tensor, Report | None]:
        return recording.right_side(cotangent) / (1 - self.rate), None
