"""Broyden's method with limited memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..argument_checks import require_count
from ..solution import LowRankInverse
from ..state import StateLayout
from .fixed_point_solver import FixedPointSolver, Iteration


@dataclass(frozen=True, kw_only=True)
class Broyden(FixedPointSolver):
    r"""
    Broyden's good method :footcite:p:`broyden1965class` for
    :math:`g(x) = x - f(x) = 0`, applied to each sample separately:

    .. math::

        x_{k+1} = x_k - H_k\, g(x_k), \qquad
        H_{k+1} = H_k + \frac{(s_k - H_k d_k)\, s_k^\top H_k}{s_k^\top H_k d_k},

    with :math:`s_k = x_{k+1} - x_k`, :math:`d_k = g(x_{k+1}) - g(x_k)` and
    :math:`H_0 = I`, so that the first iteration is a Picard iteration. :math:`H_k` is
    stored as the identity and up to ``history_size`` rank-one terms; when the memory is
    full, the method starts again from the identity and the newest pair. It converges
    superlinearly near a regular fixed point until the memory is full, and has no global
    guarantee. Bad proposals are replaced by the plain step, as in :class:`Anderson
    <deepinv_equilibrium.Anderson>`. The solution is :math:`f` of the best iterate; it
    comes with the estimate :math:`H \approx (I - \partial f)^{-1}`, which
    :class:`SHINE <deepinv_equilibrium.SHINE>` reads.

    :param int history_size: number of rank-one terms, at least 1. Default: 20.
    :param int max_iter: largest number of evaluations of the step. Default: 100.
    :param float rtol: tolerance on the relative residual. Default: ``1e-4``.
    :param float atol: tolerance on the absolute residual. Default: 0.
    :raises ValueError: if an argument is out of its range.
    """

    history_size: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("history_size", self.history_size, 1)

    @property
    def fills_inverse_jacobian(self) -> bool:
        """Always true."""
        return True

    def begin(self, x0: Tensor, layout: StateLayout) -> BroydenIteration:
        """Start a run from the identity."""
        return BroydenIteration(x0, min(self.history_size, self.max_iter))


class BroydenIteration(Iteration):
    r"""
    The rank-one terms of one run, and the last evaluation.

    :param torch.Tensor x0: packed initial state, of shape :math:`(B, n)`.
    :param int size: number of rank-one terms.
    """

    def __init__(self, x0: Tensor, size: int):
        batch, n = x0.shape
        self.count = 0
        self.inverse = LowRankInverse(
            x0.new_zeros(batch, size, n), x0.new_zeros(batch, size, n)
        )
        self.previous: tuple[Tensor, Tensor] | None = None
        self.fresh = torch.ones(batch, dtype=torch.bool, device=x0.device)

    def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
        """Update the estimate, and return a quasi-Newton step."""
        g = torch.where(active[:, None], x - value, 0.0)
        if self.previous is not None:
            self._update(x, g, active)
        self.previous = (x, g)
        self.fresh = ~active
        return x - self.inverse.apply(g)

    def forget(self, where: Tensor) -> None:
        """Reset the estimates of some samples to the identity."""
        self._clear(where)
        self.fresh = self.fresh | where

    def inverse_jacobian(self) -> LowRankInverse | None:
        """Return the estimate."""
        return self.inverse

    def _update(self, x: Tensor, g: Tensor, active: Tensor) -> None:
        assert self.previous is not None
        slot = self.count % self.inverse.u.shape[1]
        if slot == 0 and self.count:
            self._clear(active)
        step = x - self.previous[0]
        hd = self.inverse.apply(g - self.previous[1])
        denominator = (step * hd).sum(dim=1)
        # A denominator of zero, up to rounding, would make the estimate explode.
        floor = torch.finfo(x.dtype).eps * step.norm(dim=1) * hd.norm(dim=1)
        learn = active & ~self.fresh & (denominator.abs() > floor)
        where = learn[:, None]
        u = (step - hd) / torch.where(learn, denominator, 1.0)[:, None]
        # H + u s^T H, with H = I - sum u v^T, so the new term enters negated.
        v = self.inverse.adjoint(step)
        self.inverse.u[:, slot] = torch.where(
            where, -u, self._unless(active, self.inverse.u[:, slot])
        )
        self.inverse.v[:, slot] = torch.where(
            where, v, self._unless(active, self.inverse.v[:, slot])
        )
        self.count += 1

    @staticmethod
    def _unless(active: Tensor, term: Tensor) -> Tensor:
        """Return the term of stopped samples, and zero for active samples."""
        return torch.where(active[:, None], 0.0, term)

    def _clear(self, where: Tensor) -> None:
        mask = where[:, None, None]
        self.inverse.u.masked_fill_(mask, 0.0)
        self.inverse.v.masked_fill_(mask, 0.0)
