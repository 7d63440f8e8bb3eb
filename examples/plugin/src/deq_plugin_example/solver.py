"""A solver of fixed points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepinv_equilibrium.fixed_points import FixedPointSolver, Iteration, StateLayout


@dataclass(frozen=True, kw_only=True)
class BarzilaiBorwein(FixedPointSolver):
    r"""
    Relaxed iteration with the step size of Barzilai and Borwein.

    .. math::

        x_{k+1} = x_k - \alpha_k g_k, \qquad g_k = x_k - f(x_k), \qquad
        \alpha_k = \frac{\|s\|^2}{\langle s, d \rangle},

    with :math:`s = x_k - x_{k-1}` and :math:`d = g_k - g_{k-1}`.
    """

    def begin(self, x0: Tensor, layout: StateLayout) -> Iteration:
        """Start a run."""
        return _BarzilaiBorweinIteration(x0)


class _BarzilaiBorweinIteration(Iteration):
    """What a run has learned: the last iterates and residuals of each sample."""

    def __init__(self, x0: Tensor) -> None:
        self.x, self.g = x0, torch.zeros_like(x0)
        self.known = torch.zeros(len(x0), dtype=torch.bool, device=x0.device)

    def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
        """Return the next iterates, one row for each sample."""
        g = x - value
        s, d = x - self.x, g - self.g
        alpha = (s * s).sum(1) / (s * d).sum(1)
        usable = self.known & (alpha > 0) & alpha.isfinite()
        self.x, self.g, self.known = x, g, active
        return x - torch.where(usable, alpha, 1.0)[:, None] * g

    def forget(self, where: Tensor) -> None:
        """Forget the samples whose last proposal was rejected."""
        self.known = self.known & ~where
