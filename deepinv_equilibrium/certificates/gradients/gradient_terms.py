"""What bounds of the error of a gradient are made of."""

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
    What the bounds of :func:`gradient_error` are made of. Tensors have a number a
    sample, in float64, and are bounds from above.
    """

    rate: Bound
    constants: StepConstants
    smoothness: Bound
    arithmetic: Bound  # what the kind of computed numbers is
    products: Bound  # and of norms of B
    start_distance: Tensor  # of x0 from the fixed point
    distance: Tensor  # of what was returned from it
    loss_gradient: Tensor  # where it was returned
    adjoint_residual: Tensor
    recorded_parameter_jacobian: Tensor  # ||B|| at the last recorded state
    parameter_jacobian: Tensor  # and at the fixed point
    moved: Tensor  # sum of e_j ||c_j||
    cotangent: Tensor  # sum of ||c_j||

    @classmethod
    def of(
        cls,
        rate: Bound,
        record: RecordedGradient,
        loss: Loss,
        constants: StepConstants | None,
    ) -> GradientTerms:
        r"""
        :param Bound rate: of the step.
        :param RecordedGradient record: the gradient that was computed.
        :param Callable loss: the loss.
        :param StepConstants constants: of the step, ``None`` to estimate them.
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
            jacobians.norms_rest_on(len(record.x)),
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
        """The part that comes from the forward residual, and rounding."""
        # Cauchy-Schwarz over the samples: the loss may couple them.
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
        """Bound of the gradient of the loss at the fixed point, of the batch."""
        moved = self.smoothness.value * self.distance.norm()
        return float(self.loss_gradient.norm() + moved)

    def bound(self, value: float, source: str) -> Bound:
        """A bound that was computed from all of these."""
        return self._derived(
            value,
            source,
            self.smoothness,
            self.products,
            *vars(self.constants).values(),
        )

    def described(self) -> dict[str, Bound]:
        """By name; of several samples the largest."""
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
                f"{self.products.source}, moved to the fixed point",
                self.products,
                L_B,
            ),
            "Lipschitz constant of the Jacobian": self.constants.jacobian_lipschitz,
            "Lipschitz constant of the parameter Jacobian": L_B,
        }

    def _derived(self, value: float, source: str, *terms: Bound) -> Bound:
        # The sums over samples and evaluations round too.
        value = outward(value, relative=1e-10)
        return derived(value, [self.rate, self.arithmetic, *terms], source)


def _adjoint_residual(record: RecordedGradient, jacobians: StepJacobians) -> Tensor:
    """The residual of the adjoint system of each sample, and its rounding."""
    left = record.loss_gradient
    rounding = sample_norms(left)
    for evaluation in record.evaluations:
        product = jacobians.state_vjp(evaluation.state, evaluation.cotangent)
        left = left - evaluation.cotangent + product
        rounding = rounding + sample_norms(evaluation.cotangent) + sample_norms(product)
    return sample_norms(left) + ROUNDING * rounding


def residual_norms(x: Tensor, value: Tensor) -> Tensor:
    """How far a step has moved each sample, and its rounding, of shape (B,)."""
    rounding = ROUNDING * (sample_norms(x) + sample_norms(value))
    return sample_norms(value - x) + rounding


def arithmetic_of(x: Tensor, parameters: Iterable[Tensor]) -> Bound:
    """What computed numbers rest on: in float64 their rounding is bounded."""
    if all(t.dtype is torch.float64 for t in (x, *parameters)):
        return Bound(0.0, source="float64")
    return Bound(0.0, Kind.ESTIMATED, "computed in less than float64")


def _over_gap(value: float, rate: Bound) -> float:
    return value / (1 - rate.value) if rate.value < 1 else math.inf
