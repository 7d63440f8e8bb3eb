"""Broyden's method with limited memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..argument_checks import require_count
from ..solution import LowRankInverse
from .fixed_point_solver import FixedPointSolver


@dataclass(frozen=True, kw_only=True)
class Broyden(FixedPointSolver):
    r"""
    Broyden's (good) method :footcite:p:`broyden1965class` for
    :math:`g(x) = x - f(x) = 0`, for each sample on its own:

    .. math::

        x_{k+1} = x_k - H_k\, g(x_k), \qquad
        H_{k+1} = H_k + \frac{(s_k - H_k d_k)\, s_k^\top H_k}{s_k^\top H_k d_k},

    with :math:`s_k = x_{k+1} - x_k`, :math:`d_k = g(x_{k+1}) - g(x_k)` and
    :math:`H_0 = I`, so that the first iteration is a Picard one. :math:`H_k` is kept
    as the identity and ``history_size`` rank-one terms; when they are used up it starts
    again from the identity and the newest pair. Locally superlinear near a regular
    fixed point while the memory lasts, without global guarantee; bad proposals fall
    back to the plain step as in :class:`Anderson <deepinv_equilibrium.Anderson>`. What
    is returned is :math:`f` of the best iterate, and
    :math:`H \approx (I - \partial f)^{-1}` with it, which
    :class:`SHINE <deepinv_equilibrium.SHINE>` reads.

    :param int history_size: rank-one terms remembered, at least 1. Default: 20.
    :param int max_iter: the most evaluations of the step. Default: 100.
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
        """Yes: its own estimate."""
        return True

    def begin(self, x0: Tensor) -> BroydenIteration:
        """A run from the identity."""
        return BroydenIteration(x0, min(self.history_size, self.max_iter))


class BroydenIteration:
    """The rank-one terms of one run, and the last evaluation."""

    def __init__(self, x0: Tensor, size: int):
        batch, n = x0.shape
        self.count = 0
        self.inverse = LowRankInverse(
            x0.new_zeros(batch, size, n), x0.new_zeros(batch, size, n)
        )
        self.previous: tuple[Tensor, Tensor] | None = None
        self.fresh = torch.ones(batch, dtype=torch.bool, device=x0.device)

    def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
        """Update the estimate and make a quasi-Newton step."""
        g = torch.where(active[:, None], x - value, 0.0)
        if self.previous is not None:
            self._update(x, g, active)
        self.previous = (x, g)
        self.fresh = ~active
        return x - self.inverse.apply(g)

    def forget(self, where: Tensor) -> None:
        """Start these samples from the identity again."""
        self._clear(where)
        self.fresh = self.fresh | where

    def inverse_jacobian(self) -> LowRankInverse | None:
        """The estimate as it stands."""
        return self.inverse

    def _update(self, x: Tensor, g: Tensor, active: Tensor) -> None:
        assert self.previous is not None
        slot = self.count % self.inverse.u.shape[1]
        if slot == 0 and self.count:
            self._clear(active)
        step = x - self.previous[0]
        hd = self.inverse.apply(g - self.previous[1])
        denominator = (step * hd).sum(dim=1)
        # A nearly orthogonal update would blow the estimate up: leave it out.
        floor = torch.finfo(x.dtype).eps * step.norm(dim=1) * hd.norm(dim=1)
        learn = active & ~self.fresh & (denominator.abs() > floor)
        where = learn[:, None]
        u = (step - hd) / torch.where(learn, denominator, 1.0)[:, None]
        # H + u s^T H, with H = I - sum u v^T, so the new term enters negated.
        v = self.inverse.adjoint(step)
        self.inverse.u[:, slot] = torch.where(
            where, -u, self._kept(self.inverse.u[:, slot], active)
        )
        self.inverse.v[:, slot] = torch.where(
            where, v, self._kept(self.inverse.v[:, slot], active)
        )
        self.count += 1

    @staticmethod
    def _kept(term: Tensor, active: Tensor) -> Tensor:
        """What is left in a slot: frozen samples keep theirs, others have none."""
        return torch.where(active[:, None], 0.0, term)

    def _clear(self, where: Tensor) -> None:
        mask = where[:, None, None]
        self.inverse.u.masked_fill_(mask, 0.0)
        self.inverse.v.masked_fill_(mask, 0.0)
