"""The truncated Neumann series."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..argument_checks import require_count
from ..solution import Report
from ..solvers.picard import Picard
from .adjoint import Adjoint
from .recording import Cotangent, Recording


@dataclass(frozen=True)
class Neumann(Adjoint):
    r"""
    The implicit gradient with a truncated Neumann series in place of the inverse,

    .. math::

        v = \sum_{p=0}^{P} (J^\top)^p\, \frac{\partial \ell}{\partial x^*}.

    It costs :math:`P` vector-Jacobian products. For a :math:`\rho`-contraction,
    :math:`\|(I - J)^{-1} - \sum_{p \le P} J^p\| \le \rho^{P+1} / (1 - \rho)`. The
    backward reports the size of the last term as its residual, and ends as
    ``COMPLETED``, or as ``DIVERGED`` if the terms grow.

    :param int order: :math:`P`, at least 0. Default: 5.
    :raises ValueError: if ``order`` is negative.
    """

    order: int = 5

    def __post_init__(self) -> None:
        require_count("order", self.order, 0)

    def transform(
        self, recording: Recording, cotangent: Cotangent
    ) -> tuple[Tensor, Report | None]:
        """Return the partial sum."""
        if self.order == 0:
            return cotangent.state, None
        # The gradient through the output enters with the first product, as it does in
        # JacobianFree(steps=order + 1).
        return recording.iterate_adjoint(
            Picard(max_iter=self.order, rtol=0.0),
            recording.right_side(cotangent),
            cotangent.state,
        )
