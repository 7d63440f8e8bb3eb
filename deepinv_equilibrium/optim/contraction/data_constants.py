"""Curvatures of data fidelities, from which rates are computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from deepinv.optim import L2
from deepinv.optim.distance import L2Distance
from deepinv.physics import DecomposablePhysics, LinearPhysics, Physics
from torch import Tensor

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
    :param float rounding: relative rounding error of the curvatures, which includes
        that of :math:`\tau / \sigma^2`.
    :param float prox_rounding: relative rounding error of the eigenvalues of the
        proximal operator.
    """

    mu: Bound
    L: Bound
    squared_norm: Bound
    precision: float = 1.0
    kappa: float = 0.0
    rounding: float = 1e-12
    prox_rounding: float = 0.0

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
            interval = spectrum(physics, img_size).of_one_kind()
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
        of_norm = _UNITS * _rounding_unit((data_fidelity.norm,))
        rounding = 1e-12 + gram_rounding(physics) + of_norm
        scale = "" if precision == 1 else f", times 1/sigma^2 = {precision:g}"
        scale += f", plus kappa = {kappa:g}" if kappa else ""

        def curvature(end: Bound) -> Bound:
            if not scale and rounding == 1e-12:
                return end
            value = outward(
                end.value * precision + kappa, is_lower=end.is_lower, relative=rounding
            )
            source = (end.source or "A^T A") + scale
            return derived(value, (end,), source, is_lower=end.is_lower)

        lower, upper = curvature(interval.lower), curvature(interval.upper)
        if lower.value > upper.value:  # possible for estimates only
            lower = derived(upper.value, (lower, upper), lower.source, is_lower=True)
        return DataConstants(
            lower,
            upper,
            interval.upper,
            precision,
            kappa,
            rounding,
            prox_rounding(physics) + of_norm,
        )

    def prox_ends(self, tau: float) -> tuple[float, float]:
        r"""
        Return :math:`\mu` and :math:`L` such that the eigenvalues of the proximal
        operator, as it is computed, are between :math:`1 / (1 + \tau L)` and
        :math:`1 / (1 + \tau \mu)`; :math:`\mu` may be below 0 by rounding.
        """
        return rounded_ends(self.mu.value, self.L.value, tau, self.prox_rounding)

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


def gram_rounding(physics: Physics) -> float:
    r"""
    Return a bound of the relative rounding error of the eigenvalues of
    :math:`A^\top A`: a decomposable physics squares its singular values in their
    precision. It is 0 where the squares are exact, as those of a binary mask are, and
    in float64, whose rounding the rates include.

    :param deepinv.physics.Physics physics: the physics.
    """
    inexact = []
    for part in physics.modules():
        mask = getattr(part, "mask", None)
        if isinstance(part, DecomposablePhysics) and isinstance(mask, Tensor):
            wide = mask.to(torch.promote_types(mask.dtype, torch.float64))
            if not torch.equal((mask * mask.conj()).to(wide), wide * wide.conj()):
                inexact.append(mask)
    return _UNITS * _rounding_unit(inexact)


def prox_rounding(physics: Physics) -> float:
    r"""
    Return a bound of the relative rounding error of the eigenvalues of a closed-form
    proximal operator, which computes :math:`1 / (1 + \gamma s)` from the parameters of
    the physics in their precision; 0 in float64, whose rounding the rates include.

    :param deepinv.physics.Physics physics: the physics.
    """
    named = (*physics.named_parameters(), *physics.named_buffers())
    unit = _rounding_unit(
        value
        for name, value in named
        if not {"noise_model", "_device_holder"} & {*name.split(".")}
    )
    return gram_rounding(physics) + 4 * unit


def rounded_ends(
    mu: float, L: float, tau: float, rounding: float
) -> tuple[float, float]:
    r"""
    Return the ends :math:`(\mu - \delta / \tau) / (1 + \delta)` and
    :math:`(L + \delta / \tau) / (1 - \delta)`, for which the eigenvalues
    :math:`1 / (1 + \tau s)` are larger and smaller by the factors
    :math:`1 + \delta` and :math:`1 - \delta`.

    :param float mu: :math:`\mu`.
    :param float L: :math:`L`.
    :param float tau: step size :math:`\tau > 0`.
    :param float rounding: :math:`\delta`.
    """
    if rounding == 0:
        return mu, L
    shift = rounding / tau
    return (mu - shift) / (1 + rounding), (L + shift) / (1 - rounding)


# Units of rounding of a product of a few numbers, complex ones included.
_UNITS = 16


def _rounding_unit(values: Iterable[Any]) -> float:
    """Return the unit of rounding of the least precise tensor, 0 if all are float64."""
    units = [
        torch.finfo(value.dtype).eps
        for value in values
        if isinstance(value, Tensor)
        and (value.is_floating_point() or value.is_complex())
        and value.dtype.to_real() is not torch.float64
    ]
    return max(units, default=0.0)


def _has_own_distance(data_fidelity: Any) -> bool:
    """Whether the gradient, which is that of the distance, has the sigma that the
    proximal operator has."""
    distance = data_fidelity.d
    return type(distance) is L2Distance and bool(
        torch.as_tensor(distance.norm == data_fidelity.norm).all()
    )
