"""What is proved of the plain iteration: contraction, convergence or decrease."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from .bounds import Bound


class Convergence(str, Enum):
    r"""
    The strongest property that is proved of the plain iteration
    :math:`x_{k+1} = T(x_k)`, the strongest one first.

    - ``CONTRACTS``: :math:`T` is a contraction. It has exactly one fixed point, and the
      iterates converge to it at the rate :math:`\rho < 1`.
    - ``CONVERGES``: :math:`T` is averaged. If it has a fixed point, the iterates
      converge to one. There is no rate, and there may be several fixed points.
    - ``DECREASES``: an energy falls by at least :math:`\delta \|T(x) - x\|^2` in each
      step, :math:`\delta > 0`. Each limit point of the iterates is a critical point of
      the energy, which need not be a minimiser. The iterates need not converge.
    - ``UNPROVED``: none of these is proved.
    """

    CONTRACTS = "contracts"
    CONVERGES = "converges"
    DECREASES = "decreases"
    UNPROVED = "unproved"

    def __str__(self) -> str:
        return self.value


_NOT_KNOWN = Bound(math.inf, source="not proved")
_NO_DECREASE = Bound(0.0, source="not proved", is_lower=True)


@dataclass(frozen=True)
class Energy:
    r"""
    What is proved of an energy :math:`F` along the steps :math:`x \mapsto T(x)`, whose
    fixed points are its critical points.

    :param str formula: the energy, such as ``"f + lambda g"``.
    :param Bound convexity: lower bound of the curvature of :math:`F`. If it is
        certified and at least 0, :math:`F` is convex and every fixed point is a
        minimiser; if it is positive, there is exactly one.
    :param Bound decrease: lower bound of a constant :math:`\delta` with
        :math:`F(x) - F(T(x)) \ge \delta \|T(x) - x\|^2`; 0 if no decrease is proved.
    :param Bound value_after_steps: a constant :math:`c` such that
        :math:`F(x_k) - F(x^\star) \le (c / k) \|x_0 - x^\star\|^2` for each minimiser
        :math:`x^\star` of a convex :math:`F`. Infinite if nothing is proved.
    :param Bound value_of_residual: a constant :math:`c` such that
        :math:`F(T(x)) - \min F \le c \|T(x) - x\|^2` for a strongly convex :math:`F`.
        Infinite if nothing is proved.
    """

    formula: str
    convexity: Bound
    decrease: Bound = _NO_DECREASE
    value_after_steps: Bound = _NOT_KNOWN
    value_of_residual: Bound = _NOT_KNOWN

    @property
    def is_convex(self) -> bool:
        """Whether the energy is proved to be convex."""
        return self.convexity.is_certified and self.convexity.value >= 0

    @property
    def is_strongly_convex(self) -> bool:
        """Whether the energy is proved to be strongly convex."""
        return self.is_convex and self.convexity.value > 0

    @property
    def decreases(self) -> bool:
        """Whether each step is proved to decrease the energy."""
        return self.decrease.is_certified and self.decrease.value > 0


def proved_convergence(
    rate: Bound, averaged: Bound, energy: Energy | None
) -> Convergence:
    r"""
    Return the strongest property that certified bounds prove.

    :param Bound rate: Lipschitz constant of the step.
    :param Bound averaged: averagedness constant of the step.
    :param Energy energy: the energy; ``None`` if the step is not known to decrease one.
    :return: the property.
    """
    if rate.is_certified and rate.value < 1:
        return Convergence.CONTRACTS
    if averaged.is_certified and averaged.value < 1:
        return Convergence.CONVERGES
    if energy is not None and energy.decreases:
        return Convergence.DECREASES
    return Convergence.UNPROVED
