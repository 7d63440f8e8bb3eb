"""Picard iteration, plain or relaxed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..argument_checks import require_number
from ..solution import LowRankInverse
from .fixed_point_solver import FixedPointSolver


@dataclass(frozen=True, kw_only=True)
class Picard(FixedPointSolver):
    r"""
    Picard (Banach, Krasnosel'skii-Mann) iteration

    .. math::

        x_{k+1} = (1 - \alpha) x_k + \alpha f(x_k).

    With :math:`\alpha = 1` it converges linearly at rate :math:`\rho` if :math:`f` is a
    :math:`\rho`-contraction; for :math:`\alpha < 1` also, without a rate, if
    :math:`f` is nonexpansive and has a fixed point :footcite:p:`bauschke2017convex`.
    What is returned is :math:`f` of the last iterate.

    :param float relaxation: :math:`\alpha`, in :math:`(0, 2)`. Default: 1.
    :param int max_iter: the most evaluations of the step. Default: 100.
    :param float rtol: tolerance on the relative residual; with 0 (and ``atol=0``) all
        ``max_iter`` iterations are made. Default: ``1e-4``.
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

    def begin(self, x0: Tensor) -> PicardIteration:
        """A run has no memory but the relaxation."""
        return PicardIteration(self.relaxation)


@dataclass(frozen=True, kw_only=True)
class Restarts(Picard):
    r"""
    A number of applications of a block that was asked for, as ReTune makes: ending
    them is ``COMPLETED`` also where a tolerance allows to stop earlier.
    """

    rtol: float = 0.0

    @property
    def has_fixed_budget(self) -> bool:
        """Yes, whatever the tolerance."""
        return True


@dataclass(frozen=True)
class PicardIteration:
    """The relaxed update."""

    relaxation: float

    def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
        """The plain value, or its relaxation."""
        if self.relaxation == 1:
            return value
        return torch.lerp(x, value, self.relaxation)

    def forget(self, where: Tensor) -> None:
        """There is nothing to forget."""

    def inverse_jacobian(self) -> LowRankInverse | None:
        """There is none."""
        return None
