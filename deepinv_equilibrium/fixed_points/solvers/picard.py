"""Picard iteration, plain or relaxed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..argument_checks import require_number
from ..state import StateLayout
from .fixed_point_solver import FixedPointSolver, Iteration


@dataclass(frozen=True, kw_only=True)
class Picard(FixedPointSolver):
    r"""
    Picard (Banach, Krasnosel'skii-Mann) iteration

    .. math::

        x_{k+1} = (1 - \alpha) x_k + \alpha f(x_k).

    With :math:`\alpha = 1` it converges linearly at rate :math:`\rho` if :math:`f` is a
    :math:`\rho`-contraction. With :math:`\alpha < 1` it also converges, without a rate,
    if :math:`f` is nonexpansive and has a fixed point
    :footcite:p:`bauschke2017convex`. The solution is :math:`f` of the last iterate.

    :param float relaxation: :math:`\alpha`, in :math:`(0, 2)`. Default: 1.
    :param int max_iter: largest number of evaluations of the step. Default: 100.
    :param float rtol: tolerance on the relative residual; with ``rtol=0`` and
        ``atol=0`` every sample makes ``max_iter`` iterations. Default: ``1e-4``.
    :param float atol: tolerance on the absolute residual. Default: 0.
    :raises ValueError: if an argument is out of its range.
    """

    relaxation: float = 1.0

    accelerated: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("relaxation", self.relaxation)
        if not 0 < self.relaxation < 2:
            raise ValueError(f"relaxation must be in (0, 2), got {self.relaxation!r}.")

    def begin(self, x0: Tensor, layout: StateLayout) -> PicardIteration:
        """Start a run; it has no memory."""
        return PicardIteration(self.relaxation)


@dataclass(frozen=True, kw_only=True)
class Restarts(Picard):
    r"""
    Picard iteration with a fixed budget, as :class:`ReTune
    <deepinv_equilibrium.ReTune>` uses it.

    A sample that spends the budget ends as ``COMPLETED``, even if a tolerance could
    have stopped it earlier. The parameters are those of :class:`Picard
    <deepinv_equilibrium.Picard>`; ``rtol`` is 0 by default.
    """

    rtol: float = 0.0

    @property
    def has_fixed_budget(self) -> bool:
        """Always true."""
        return True


@dataclass(frozen=True)
class PicardIteration(Iteration):
    """The relaxed update."""

    relaxation: float

    def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
        """Return the values, or their averages with the iterates."""
        if self.relaxation == 1:
            return value
        return torch.lerp(x, value, self.relaxation)
