"""The truncated Neumann series."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..argument_checks import require_count
from ..failures import OnFailure, report_failure
from ..solution import BackwardSlot
from ..solvers.monitor import Monitor
from ..solvers.picard import Picard
from .adjoint import Adjoint
from .gate import Cotangent, Recording, Transform
from .implicit import iterate, right_side


@dataclass(frozen=True)
class Neumann(Adjoint):
    r"""
    The implicit gradient with the inverse replaced by a truncated Neumann series,

    .. math::

        v = \sum_{p=0}^{P} (J^\top)^p\, \frac{\partial \ell}{\partial x^*}.

    Takes :math:`P` vector-Jacobian products. For a :math:`\rho`-contraction
    :math:`\|(I - J)^{-1} - \sum_{p \le P} J^p\| \le \rho^{P+1} / (1 - \rho)`. The
    budget is what was asked for, so the backward ends as ``COMPLETED``, with the size
    of the last term as its residual; terms that grow are reported as ``DIVERGED``.

    :param int order: :math:`P`, at least 0. Default: 5.
    :raises ValueError: if ``order`` is negative.
    """

    order: int = 5

    def __post_init__(self) -> None:
        require_count("order", self.order, 0)

    def transform(
        self, monitor: Monitor, slot: BackwardSlot, on_failure: OnFailure
    ) -> Transform:
        """The partial sum."""

        def partial_sum(recording: Recording, cotangent: Cotangent) -> Tensor:
            if self.order == 0:
                return cotangent.state
            v, report = iterate(
                Picard(max_iter=self.order, rtol=0.0),
                recording,
                right_side(recording, cotangent),
                # The output is no part of the state: it enters with the first product.
                cotangent.state,
            )
            slot.report = report
            report_failure(report, on_failure, "The adjoint series of Neumann")
            return v

        return partial_sum
