"""What ReTune's gradients would be like, from one accurate solve."""

from __future__ import annotations

import torch
from torch import Tensor

from ...fixed_points import Anderson, fixed_point
from ..bounds import Bound, outward
from .gradient_bounds import trajectory_error
from .gradient_terms import ROUNDING, arithmetic_of, residual_norms
from .smooth_loss import Loss, loss_gradient
from .step_constants import StepConstants, estimate_constants, estimate_smoothness
from .step_jacobians import StepJacobians, sample_norms

LARGEST_BUDGET = 10_000
"""Iterations past which a plan is of no use."""


class FixedPointVicinity:
    r"""
    A point :math:`x` near the fixed point, and what was measured there: the distances
    :math:`\|x_k - x\|` of the iterates, and the norms of :math:`u_p = (J(x)^\top)^p
    \nabla \ell(x)` and of their sums. Both are computed as far as they are asked for.

    The batch is one vector here; its Lipschitz constants are those of the samples.

    :param StepJacobians jacobians: the step and its derivatives.
    :param Bound rate: :math:`\rho`, below 1.
    :param torch.Tensor x0: the initial state.
    :param Callable loss: the loss.
    :param StepConstants constants: of the step, ``None`` to estimate them.
    """

    def __init__(
        self,
        jacobians: StepJacobians,
        rate: Bound,
        x0: Tensor,
        loss: Loss,
        constants: StepConstants | None,
    ):
        self.jacobians = jacobians
        self.rate = rate
        with torch.no_grad():
            solver = Anderson(rtol=100 * torch.finfo(x0.dtype).eps, max_iter=500)
            # What is bounded from here is so however near this comes.
            x = fixed_point(jacobians.step, x0, solver, on_failure="ignore").x
            assert isinstance(x, Tensor)
            after = jacobians.step(x)
        assert isinstance(after, Tensor)
        self.x = x
        self.left = float((residual_norms(x, after) / (1 - rate.value)).norm())
        self._iterate, self._distances = x0, [_distance(x0, x)]
        u = loss_gradient(loss, x)
        self._cotangent, self._sum = u, torch.zeros_like(u)
        self._cotangents, self._sums = [_norm(u)], [0.0]
        radius = sample_norms(x0 - x)
        directions = [after - x, x0 - x]
        if constants is None:
            constants = estimate_constants(jacobians, x, u, radius, directions)
        self.L_J = constants.jacobian_lipschitz
        self.L_B = constants.parameter_jacobian_lipschitz
        self.smoothness = estimate_smoothness(loss, x, radius, directions)
        self.beta = float(jacobians.parameter_norms(x).norm()) * (1 + ROUNDING)

    @property
    def scale(self) -> float:
        """A bound of the gradient at the point, to which tolerances are relative."""
        return self.beta * self._cotangents[0] / (1 - self.rate.value)

    @property
    def gradient_norm(self) -> float:
        """The norm of the gradient, by the longest series that was asked for."""
        return self.jacobians.gradient_norm(self.x, self._sum)

    @property
    def terms(self) -> list[Bound]:
        """What the bounds rest on."""
        return [
            self.rate,
            self.smoothness,
            self.L_J,
            self.L_B,
            self.jacobians.norms_rest_on(len(self.x)),
            arithmetic_of(self.x, self.jacobians.parameters),
        ]

    def error(self, layers: int, restarts: int) -> float:
        """Bound of the error of ReTune's gradient."""
        cotangent, total = self._series(layers)
        at_fixed_point = self.beta + self.L_B.value * self.left
        moved = self.smoothness.value + self.L_J.value * total
        neumann = (
            at_fixed_point * (cotangent + moved * self.left) / (1 - self.rate.value)
            + self.L_B.value * self.left * total
        )
        last = layers * restarts
        retune = trajectory_error(
            self.rate.value,
            [self._distance(last - p) for p in range(layers + 1)],
            self._cotangents[:layers],
            self.smoothness.value,
            self.beta,
            self.L_J.value,
            self.L_B.value,
        )
        return outward(neumann + retune, relative=1e-10)

    def _series(self, order: int) -> tuple[float, float]:
        r"""Norms of :math:`u_P` and of :math:`u_0 + \dots + u_{P-1}`."""
        while len(self._cotangents) <= order:
            self._sum = self._sum + self._cotangent
            self._cotangent = self.jacobians.state_vjp(self.x, self._cotangent)
            # Each product has rounded, relative to what it came from.
            rounding = ROUNDING * self._cotangents[0]
            self._cotangents.append(_norm(self._cotangent) + rounding)
            self._sums.append(_norm(self._sum) + rounding * len(self._sums))
        return self._cotangents[order], self._sums[order]

    def _distance(self, k: int) -> float:
        r"""Bound of :math:`\|x_k - x\|`."""
        while k >= len(self._distances):
            known = len(self._distances)
            if self._distances[-1] <= self.left or known > LARGEST_BUDGET:
                # From here on no iterate is farther from the fixed point.
                return self._distances[-1] + 2 * self.left
            with torch.no_grad():
                value = self.jacobians.step(self._iterate)
            assert isinstance(value, Tensor)
            self._iterate = value
            self._distances.append(_distance(value, self.x))
        return self._distances[k]


def _norm(x: Tensor) -> float:
    return float(sample_norms(x).norm()) * (1 + ROUNDING)


def _distance(x: Tensor, other: Tensor) -> float:
    return _norm(x - other) + ROUNDING * (_norm(x) + _norm(other))
