"""Anderson acceleration with a relative ridge."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..argument_checks import require_count, require_number
from ..solution import LowRankInverse
from ..state import inner_products
from .fixed_point_solver import FixedPointSolver


@dataclass(frozen=True, kw_only=True)
class Anderson(FixedPointSolver):
    r"""
    Anderson acceleration :footcite:p:`walker2011anderson` of type II,

    .. math::

        x_{k+1} = \sum_j \alpha_j \bigl( \beta f(x_j) + (1 - \beta) x_j \bigr),
        \qquad
        \alpha = \operatorname*{arg\,min}_{\sum_j \alpha_j = 1}
        \Bigl\| \sum_j \alpha_j g_j \Bigr\|^2
        + \epsilon \sum_j \alpha_j^2 \|g_j\|^2,

    with :math:`g_j = f(x_j) - x_j` over the last ``history_size`` iterates, for each
    sample on its own. The ridge is relative: scaling the problem changes nothing
    (:math:`\epsilon` is a few units of rounding; deepinv and others add an absolute
    one). On an affine step it is equivalent to GMRES while the history lasts; on
    others it has no global guarantee. A proposal that is not finite, leaves the step's
    domain or makes the residual ten times the best falls back to the plain step. What
    is returned is :math:`f` of the best iterate.

    :param int history_size: iterates remembered, at least 1. Default: 10.
    :param float beta: mixing :math:`\beta`, in :math:`(0, 2)`. Default: 1.
    :param int max_iter: the most evaluations of the step. Default: 100.
    :param float rtol: tolerance on the relative residual. Default: ``1e-4``.
    :param float atol: tolerance on the absolute residual. Default: 0.
    :raises ValueError: if an argument is out of its range.
    """

    history_size: int = 10
    beta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("history_size", self.history_size, 1)
        require_number("beta", self.beta)
        if not (0 < self.beta < 2 and math.isfinite(self.beta)):
            raise ValueError(f"beta must be in (0, 2), got {self.beta!r}.")

    def begin(self, x0: Tensor) -> AndersonIteration:
        """A run with empty history."""
        return AndersonIteration(x0, min(self.history_size, self.max_iter), self.beta)


class AndersonIteration:
    r"""
    History of one run: residuals, mixed values and the Gram matrix of the residuals, of
    which an iteration renews one row.
    """

    def __init__(self, x0: Tensor, size: int, beta: float):
        batch, n = x0.shape
        self.beta = beta
        self.count = 0
        self.mixed = x0.new_zeros(batch, size, n)
        self.residuals = x0.new_zeros(batch, size, n)
        self.gram = x0.new_zeros(batch, size, size, dtype=torch.float64)
        self.valid = torch.zeros(batch, size, dtype=torch.bool, device=x0.device)
        # Below the rounding of the Gram matrix its eigenvalues mean nothing.
        self.ridge = 4 * torch.finfo(x0.dtype).eps

    def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
        """Remember the evaluation and mix the history."""
        slot = self.count % self.residuals.shape[1]
        self.count += 1
        mixed = value if self.beta == 1 else torch.lerp(x, value, self.beta)
        # A zero weight does not silence NaN: what is not learned from is not kept.
        self.residuals[:, slot] = torch.where(active[:, None], value - x, 0.0)
        self.mixed[:, slot] = torch.where(active[:, None], mixed, 0.0)
        self.valid[:, slot] = active
        row = inner_products(self.residuals, self.residuals[:, slot]).double()
        self.gram[:, slot, :] = row
        self.gram[:, :, slot] = row
        weights = self._weights(slot).to(x.dtype)
        return (weights[:, None, :] @ self.mixed)[:, 0]

    def forget(self, where: Tensor) -> None:
        """Drop the history of these samples."""
        self.valid &= ~where[:, None]

    def inverse_jacobian(self) -> LowRankInverse | None:
        """There is none."""
        return None

    def _weights(self, slot: int) -> Tensor:
        """The affine weights that minimise the mixed residual, in float64."""
        norms = self.gram.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
        used = self.valid & (norms > 0)
        both = used[:, :, None] & used[:, None, :]
        scale = torch.where(used, norms, 1.0)
        cosines = torch.where(both, self.gram / scale[:, :, None] / scale[:, None], 0.0)
        eye = torch.eye(norms.shape[1], dtype=torch.float64, device=norms.device)
        ratio = torch.where(used, scale[:, slot, None] / scale, 0.0)
        solved, _ = torch.linalg.solve_ex(
            cosines + (self.ridge + (~used).double())[..., None] * eye, ratio
        )
        weights = solved * ratio
        return weights / weights.sum(dim=1, keepdim=True)
