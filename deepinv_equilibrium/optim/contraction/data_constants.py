"""Curvatures of data fidelities, from which rates are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from deepinv.optim import L2
from deepinv.optim.distance import L2Distance
from deepinv.physics import LinearPhysics, Physics

from ...certificates import Bound, Term, UncertifiablePhysicsError, spectrum
from ...certificates.bounds import derived, outward, unproved
from ..data_fidelities.ridge_l2 import RidgeL2


@dataclass(frozen=True)
class DataConstants:
    r"""
    Constants of a data fidelity
    :math:`f(x) = \tfrac{1}{2 \sigma^2} \|Ax - y\|^2 + \tfrac{\kappa}{2} \|x\|^2`.

    :param Bound mu: :math:`\mu` with :math:`\mu I \preceq \nabla^2 f`.
    :param Bound L: :math:`L` with :math:`\nabla^2 f \preceq L I`. If :math:`f` does not
        have this form, :math:`L` is infinite and its source says why.
    :param Bound squared_norm: upper bound of :math:`\|A\|^2`.
    :param float precision: :math:`1 / \sigma^2`.
    :param float kappa: :math:`\kappa`.
    """

    mu: Bound
    L: Bound
    squared_norm: Bound
    precision: float = 1.0
    kappa: float = 0.0

    @staticmethod
    def of(
        data_fidelity: Any, physics: Physics, img_size: Sequence[int]
    ) -> DataConstants:
        r"""
        Return the constants of a data fidelity for a physics.

        :param deepinv.optim.DataFidelity data_fidelity: :class:`deepinv.optim.L2` or
            :class:`RidgeL2`; nothing is known about other classes.
        :param deepinv.physics.Physics physics: the physics.
        :param Sequence img_size: :math:`(C, H, W)` of the images.
        :return: the constants.
        """
        kind = type(data_fidelity)
        if kind not in (L2, RidgeL2):
            return DataConstants._unknown(
                f"no curvature is known of the data fidelity {kind.__name__}; "
                "deepinv.optim.L2 and RidgeL2 have one"
            )
        if not isinstance(physics, LinearPhysics):
            return DataConstants._unknown(f"{type(physics).__name__} is not linear")
        try:
            interval = spectrum(physics, img_size)
        except UncertifiablePhysicsError as error:
            return DataConstants._unknown(str(error))
        if torch.as_tensor(data_fidelity.norm).numel() != 1:
            return DataConstants._unknown(
                f"{kind.__name__} has several values of sigma; one is covered"
            )
        if not _has_own_distance(data_fidelity):
            return DataConstants._unknown(
                f"{kind.__name__} was changed: its distance is not an L2Distance with "
                "the same sigma"
            )
        precision = float(data_fidelity.norm)
        kappa = float(getattr(data_fidelity, "kappa", 0.0))
        scale = "" if precision == 1 else f", times 1/sigma^2 = {precision:g}"
        scale += f", plus kappa = {kappa:g}" if kappa else ""

        def curvature(end: Bound) -> Bound:
            if not scale:
                return end
            value = outward(end.value * precision + kappa, is_lower=end.is_lower)
            source = (end.source or "A^T A") + scale
            return derived(value, (end,), source, is_lower=end.is_lower)

        lower, upper = curvature(interval.lower), curvature(interval.upper)
        if lower.value > upper.value:  # possible for estimates only
            lower = derived(upper.value, (lower, upper), lower.source, is_lower=True)
        return DataConstants(lower, upper, interval.upper, precision, kappa)

    @staticmethod
    def _unknown(reason: str) -> DataConstants:
        nothing = unproved(reason)
        return DataConstants(Bound(0.0, source=reason, is_lower=True), nothing, nothing)

    @property
    def terms(self) -> tuple[Term, ...]:
        """The lines of the report."""
        return (
            Term("smallest curvature of the data fidelity", "mu", self.mu),
            Term("largest curvature of the data fidelity", "L", self.L),
        )


def _has_own_distance(data_fidelity: Any) -> bool:
    """Whether the gradient, which is that of the distance, has the sigma that the
    proximal operator has."""
    distance = data_fidelity.d
    return type(distance) is L2Distance and bool(
        torch.as_tensor(distance.norm == data_fidelity.norm).all()
    )
