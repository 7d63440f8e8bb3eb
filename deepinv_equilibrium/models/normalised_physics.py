"""An operator and a measurement in units that do not depend on those of the scanner."""

from __future__ import annotations

from dataclasses import dataclass

from deepinv.physics import LinearPhysics
from torch import Tensor


@dataclass(frozen=True)
class NormalisedPhysics:
    r"""
    :math:`A / n` and :math:`y / n` with an upper bound :math:`n` of :math:`\|A\|`: the
    least-squares problem is the same, and what a network sees of it too where
    :math:`A` and :math:`y` are measured in another unit.

    :param deepinv.physics.LinearPhysics physics: the physics.
    :param torch.Tensor measurement: :math:`y`.
    :param float norm: :math:`n > 0`.
    """

    physics: LinearPhysics
    measurement: Tensor
    norm: float

    @property
    def y(self) -> Tensor:
        r""":math:`y / n`."""
        return self.measurement / self.norm

    def apply(self, x: Tensor) -> Tensor:
        r""":math:`A x / n`."""
        return self.physics.A(x) / self.norm

    def adjoint(self, u: Tensor) -> Tensor:
        r""":math:`A^\top u / n`."""
        return self.physics.A_adjoint(u) / self.norm
