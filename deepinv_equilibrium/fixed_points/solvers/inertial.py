"""Picard iteration with inertia, which restarts where it overshoots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..state import StateLayout
from .fixed_point_solver import FixedPointSolver, Iteration


@dataclass(frozen=True, kw_only=True)
class Inertial(FixedPointSolver):
    r"""
    Picard iteration with the inertia of Nesterov's method and restarts,

    .. math::

        x_{k+1} = f(x_k) + \frac{t_k - 1}{t_{k+1}} \bigl( f(x_k) - f(x_{k-1}) \bigr),
        \qquad t_{k+1} = \frac{1 + \sqrt{1 + 4 t_k^2}}{2}, \quad t_0 = 1,

    separately for each sample. Inertia that overshoots makes the residual grow. A
    sample whose residual is larger than its smallest one restarts: it goes on with the
    plain step from the best iterate, and with :math:`t_k = 1`.
    :footcite:t:`odonoghue2015adaptive` restart where a function value grows, and from
    the last iterate. Deep equilibrium models with inertia and restarts were proposed in
    arXiv:2605.19705.

    The smallest residual never grows. That it falls at a certified rate takes
    :class:`Safeguarded <deepinv_equilibrium.Safeguarded>`. For a gradient step on a
    convex quadratic function the number of iterations grows with the square root of the
    condition number, and for Picard with the number itself. The memory is three states,
    where :class:`Anderson <deepinv_equilibrium.Anderson>` needs ``2 * history_size``.
    The solution is :math:`f` of the best iterate.

    :param int max_iter: largest number of evaluations of the step. Default: 100.
    :param float rtol: tolerance on the relative residual. Default: ``1e-4``.
    :param float atol: tolerance on the absolute residual. Default: 0.
    :raises ValueError: if an argument is out of its range.
    """

    largest_growth: ClassVar[float] = 1.0

    def begin(self, x0: Tensor, layout: StateLayout) -> InertialIteration:
        """Start a run without inertia."""
        return InertialIteration(x0)


class InertialIteration(Iteration):
    r"""
    The last values of one run, and :math:`t_k`.

    :param torch.Tensor x0: packed initial state, of shape :math:`(B, n)`.
    """

    def __init__(self, x0: Tensor):
        self.previous = x0
        self.t = torch.ones_like(x0[:, :1], dtype=torch.float64)

    def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
        """Return the values, moved on in the direction of their last change."""
        following = (1 + (1 + 4 * self.t.square()).sqrt()) / 2
        inertia = ((self.t - 1) / following).to(x.dtype)
        # Zeros, because 0 times a value that is not finite would still be NaN.
        change = torch.where(inertia > 0, value - self.previous, 0.0)
        self.previous = torch.where(active[:, None], value, self.previous)
        self.t = torch.where(active[:, None], following, 1.0)
        return value + inertia * change

    def forget(self, where: Tensor) -> None:
        """Let some samples start again."""
        self.t = torch.where(where[:, None], 1.0, self.t)
