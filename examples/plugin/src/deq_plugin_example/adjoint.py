"""An adjoint: an approximate gradient of a fixed point."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from deepinv_equilibrium.fixed_points import Adjoint, Cotangent, Recording, Report


@dataclass(frozen=True)
class RateCorrected(Adjoint):
    r"""
    The Jacobian-free gradient divided by :math:`1 - \rho`, exact if the Jacobian is
    :math:`\rho I`.

    :param float rate: :math:`\rho`, in :math:`[0, 1)`.
    """

    rate: float

    def transform(
        self, recording: Recording, cotangent: Cotangent
    ) -> tuple[Tensor, Report | None]:
        """Return the vector whose product with the recorded step is the gradient."""
        return recording.right_side(cotangent) / (1 - self.rate), None
