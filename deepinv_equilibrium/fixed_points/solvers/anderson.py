"""Anderson acceleration with a relative ridge."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..argument_checks import require_count, require_number
from ..state import StateLayout, combinations, inner_products
from .fixed_point_solver import FixedPointSolver, Iteration


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

    with :math:`g_j = f(x_j) - x_j` over the last ``history_size`` iterates of each
    sample. The ridge is relative, with :math:`\epsilon` four units of rounding, so that
    scaling the problem changes nothing; deepinv and others use an absolute ridge. For
    an affine step the method is equivalent to GMRES until the history is full; for
    other steps it has no global guarantee. A proposal is replaced by the plain step if
    it is not finite, leaves the domain of the step or has ten times the best residual.
    The solution is :math:`f` of the best iterate.

    :param int history_size: number of iterates in the history, at least 1. Default: 10.
    :param float beta: mixing :math:`\beta`, in :math:`(0, 2)`. Default: 1.
    :param int max_iter: largest number of evaluations of the step. Default: 100.
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

    def begin(self, x0: Tensor, layout: StateLayout) -> AndersonIteration:
        """Start a run with an empty history."""
        return AndersonIteration(x0, min(self.history_size, self.max_iter), self.beta)


class AndersonIteration(Iteration):
    r"""
    History of one run: residuals, mixed values and the Gram matrix of the residuals.
    Each iteration replaces the oldest entry.

    :param torch.Tensor x0: packed initial state, of shape :math:`(B, n)`.
    :param int size: number of iterates in the history.
    :param float beta: mixing :math:`\beta`.
    """

    def __init__(self, x0: Tensor, size: int, beta: float):
        batch, n = x0.shape
        self.beta = beta
        self.count = 0
        self.mixed = x0.new_zeros(batch, size, n)
        self.residuals = x0.new_zeros(batch, size, n)
        self.gram = x0.new_zeros(batch, size, size, dtype=torch.float64)
        self.valid = torch.zeros(batch, size, dtype=torch.bool, device=x0.device)
        # Eigenvalues below the rounding of the Gram matrix carry no information.
        self.ridge = 4 * torch.finfo(x0.dtype).eps

    def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
        """Add the evaluation to the history, and mix the history."""
        slot = self.count % self.residuals.shape[1]
        self.count += 1
        mixed = value if self.beta == 1 else torch.lerp(x, value, self.beta)
        # Zeros, because NaN times a weight of zero would still be NaN.
        self.residuals[:, slot] = torch.where(active[:, None], value - x, 0.0)
        self.mixed[:, slot] = torch.where(active[:, None], mixed, 0.0)
        self.valid[:, slot] = active
        row = inner_products(self.residuals, self.residuals[:, slot]).double()
        self.gram[:, slot, :] = row
        self.gram[:, :, slot] = row
        weights = self._weights(slot).to(x.dtype)
        return combinations(self.mixed, weights)

    def forget(self, where: Tensor) -> None:
        """Empty the history of some samples."""
        self.valid &= ~where[:, None]

    def _weights(self, slot: int) -> Tensor:
        """Return the weights that minimise the mixed residual, in float64."""
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
        # Contiguous: the rounding of a sum depends on the layout, and the layout of the
        # solutions depends on the batch size.
        weights = (solved * ratio).contiguous()
        return weights / weights.sum(dim=1, keepdim=True)
