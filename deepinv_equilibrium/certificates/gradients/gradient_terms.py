"""The terms of the bounds of the error of a gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..bounds import Bound, Kind, derived, outward
from .recorded_gradient import RecordedGradient
from .smooth_loss import Loss
from .step_constants import StepConstants, estimate_constants, estimate_smoothness
from .step_jacobians import StepJacobians, sample_norms

ROUNDING = 1e-12
"""Bound of the relative rounding error of an evaluation in float64."""


@dataclass(frozen=True)
class GradientTerms:
    r"""
    The terms of the bounds of :func:`gradient_error
    <deepinv_equilibrium.certificates.gradient_error>`, in its notation. Each tensor has
    one upper bound for each sample, in float64 and of shape :math:`(B,)`.

    :param Bound rate: :math:`\rho`.
    :param StepConstants constants: :math:`L_J` and :math:`L_B`.
    :param Bound smoothness: :math:`L_\ell`.
    :param Bound arithmetic: a bound of value 0 with the kind of computed numbers.
    :param Bound norm_evidence: a bound of value 0 with the kind of norms of :math:`B`.
    :param torch.Tensor start_distance: distance of :math:`x_0` from the fixed point.
    :param torch.Tensor distance: :math:`\tilde e`, the distance of the solution from
        the fixed point.
    :param torch.Tensor loss_gradient: :math:`\|\nabla \ell(\tilde x)\|`.
    :param torch.Tensor adjoint_residual: :math:`s`.
    :param torch.Tensor recorded_parameter_jacobian: :math:`\|B\|` at the last recorded
        state.
    :param torch.Tensor parameter_jacobian: :math:`\beta`, a bound of :math:`\|B\|` at
        the fixed point.
    :param torch.Tensor moved: :math:`\sum_j e_j \|c_j\|`.
    :param torch.Tensor cotangent: :math:`\sum_j \|c_j\|`.
    """

    rate: Bound
    constants: StepConstants
    smoothness: Bound
    arithmetic: Bound
    norm_evidence: Bound
    start_distance: Tensor
    distance: Tensor
    loss_gradient: Tensor
    adjoint_residual: Tensor
    recorded_parameter_jacobian: Tensor
    parameter_jacobian: Tensor
    moved: Tensor
    cotangent: Tensor

    @classmethod
    def of(
        cls,
        rate: Bound,
        record: RecordedGradient,
        loss: Loss,
        constants: StepConstants | None,
    ) -> GradientTerms:
        r"""
        Compute the terms of a recorded gradient.

        :param Bound rate: rate of the step.
        :param RecordedGradient record: the gradient.
        :param Callable loss: the loss.
        :param StepConstants constants: constants of the step; ``None`` to estimate
            them.
        :return: the terms.
        """
        jacobians = StepJacobians(record.step, record.parameters)
        gap = max(1 - rate.value, 0.0)
        with torch.no_grad():
            first, after = record.step(record.x0), record.step(record.x)
        assert isinstance(first, Tensor)
        assert isinstance(after, Tensor)
        distance = residual_norms(record.x, after) / gap
        moved, total = torch.zeros_like(distance), torch.zeros_like(distance)
        nearest, probe, radius = record.x, record.loss_gradient, distance
        for evaluation in record.evaluations:
            nearest, probe = evaluation.state, evaluation.cotangent
            radius = residual_norms(nearest, evaluation.value) / gap
            moved = moved + radius * sample_norms(probe)
            total = total + sample_norms(probe)
        directions = [after - record.x, record.x0 - record.x]
        if constants is None:
            constants = estimate_constants(
                jacobians, nearest, probe, radius, directions
            )
        norms = jacobians.parameter_norms(nearest) * (1 + ROUNDING)
        arithmetic = arithmetic_of(record.x, record.parameters)
        return cls(
            rate,
            constants,
            estimate_smoothness(loss, record.x, distance, directions),
            arithmetic,
            jacobians.norm_evidence(len(record.x)),
            residual_norms(record.x0, first) / gap,
            distance,
            sample_norms(record.loss_gradient) * (1 + ROUNDING),
            _adjoint_residual(record, jacobians),
            norms,
            norms + constants.parameter_jacobian_lipschitz.value * radius,
            moved,
            total,
        )

    @property
    def adjoint(self) -> float:
        """The part of the a-posteriori bound that comes from the adjoint residual."""
        product = self.parameter_jacobian * self.adjoint_residual
        return _over_gap(float(product.sum()), self.rate)

    @property
    def forward(self) -> float:
        """The part of the a-posteriori bound that comes from the forward residual, and
        from rounding."""
        # The loss may couple the samples: Cauchy-Schwarz over the samples.
        loss = self.parameter_jacobian.norm() * self.smoothness.value
        loss = loss * self.distance.norm()
        L_J = self.constants.jacobian_lipschitz.value
        L_B = self.constants.parameter_jacobian_lipschitz.value
        jacobian = L_J * (self.parameter_jacobian * self.moved).sum()
        rounding = ROUNDING * (self.recorded_parameter_jacobian * self.cotangent).sum()
        return _over_gap(float(loss + jacobian), self.rate) + float(
            L_B * self.moved.sum() + rounding
        )

    @property
    def slope(self) -> float:
        """A bound of the gradient of the loss at the fixed point, for the batch as one
        vector."""
        moved = self.smoothness.value * self.distance.norm()
        return float(self.loss_gradient.norm() + moved)

    def bound(self, value: float, source: str) -> Bound:
        """Return a bound that was computed from all terms."""
        return self._derived(
            value,
            source,
            self.smoothness,
            self.norm_evidence,
            *vars(self.constants).values(),
        )

    def described(self) -> dict[str, Bound]:
        """Return the printed terms by name, each for the sample with the largest
        value."""
        L_B = self.constants.parameter_jacobian_lipschitz
        return {
            "rate": self.rate,
            "distance from the fixed point": self._derived(
                float(self.distance.max()), "residual over 1 - rate"
            ),
            "adjoint residual": derived(
                float(self.adjoint_residual.max()), [self.arithmetic], "computed"
            ),
            "gradient of the loss": derived(
                float(self.loss_gradient.max()), [self.arithmetic], "computed"
            ),
            "smoothness of the loss": self.smoothness,
            "norm of the parameter Jacobian": self._derived(
                float(self.parameter_jacobian.max()),
                f"{self.norm_evidence.source}, moved to the fixed point",
                self.norm_evidence,
                L_B,
            ),
            "Lipschitz constant of the Jacobian": self.constants.jacobian_lipschitz,
            "Lipschitz constant of the parameter Jacobian": L_B,
        }

    def _derived(self, value: float, source: str, *terms: Bound) -> Bound:
        # The sums over samples and evaluations are rounded, too.
        value = outward(value, relative=1e-10)
        return derived(value, [self.rate, self.arithmetic, *terms], source)


def _adjoint_residual(record: RecordedGradient, jacobians: StepJacobians) -> Tensor:
    """Return a bound of the residual of the adjoint system for each sample."""
    left = record.loss_gradient
    rounding = sample_norms(left)
    for evaluation in record.evaluations:
        product = jacobians.state_vjp(evaluation.state, evaluation.cotangent)
        left = left - evaluation.cotangent + product
        rounding = rounding + sample_norms(evaluation.cotangent) + sample_norms(product)
    return sample_norms(left) + ROUNDING * rounding


def residual_norms(x: Tensor, value: Tensor) -> Tensor:
    r"""
    Return bounds of :math:`\|f(x) - x\|` that include rounding.

    :param torch.Tensor x: a batch of states :math:`x`.
    :param torch.Tensor value: :math:`f(x)`.
    :return: one bound for each sample, of shape :math:`(B,)`.
    """
    rounding = ROUNDING * (sample_norms(x) + sample_norms(value))
    return sample_norms(value - x) + rounding


def arithmetic_of(x: Tensor, parameters: Iterable[Tensor]) -> Bound:
    """Return a bound of value 0 with the kind of computed numbers. They are certified
    in float64 only, because the rounding of other precisions is not bounded."""
    if all(t.dtype is torch.float64 for t in (x, *parameters)):
        return Bound(0.0, source="float64")
    return Bound(0.0, Kind.ESTIMATED, "computed in less than float64")


def _over_gap(value: float, rate: Bound) -> float:
    return value / (1 - rate.value) if rate.value < 1 else math.inf
