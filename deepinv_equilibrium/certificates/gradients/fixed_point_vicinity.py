"""Bounds of the errors of ReTune's gradients, computed from one accurate solve."""

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
"""Largest number of iterations in a plan."""


class FixedPointVicinity:
    r"""
    A point :math:`x` near the fixed point and measurements there: the distances
    :math:`\|x_k - x\|` of the iterates, the norms of :math:`u_p = (J(x)^\top)^p
    \nabla \ell(x)` and the norms of their partial sums. Each is computed when it is
    needed, and stored.

    The batch counts as one vector; the Lipschitz constants of single samples hold for
    it, too.

    :param StepJacobians jacobians: the step and its derivatives.
    :param Bound rate: :math:`\rho`, below 1.
    :param torch.Tensor x0: the initial state.
    :param Callable loss: the loss :math:`\ell`.
    :param StepConstants constants: constants of the step; ``None`` to estimate them.
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
            # The bounds hold for every x; they are tight if x is near the fixed point.
            x = fixed_point(jacobians.step, x0, solver, on_failure="ignore").x
            assert isinstance(x, Tensor)
            after = jacobians.step(x)
        assert isinstance(after, Tensor)
        self.x = x
        self.left = float((residual_norms(x, after) / (1 - rate.value)).norm())
        self._iterate, self._distances = x0, [_distance(x0, x)]
        u = loss_gradient(loss, x)
        self._cotangent, self._sum = u, torch.zeros_like(u)
        self._cotangents, self._sums = [_vector_norm(u)], [0.0]
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
        r"""The bound :math:`\|B(x)\| \|\nabla \ell(x)\| / (1 - \rho)` of the gradient;
        tolerances are relative to it."""
        return self.beta * self._cotangents[0] / (1 - self.rate.value)

    @property
    def gradient_norm(self) -> float:
        """The norm of the gradient, computed by the longest Neumann series so far."""
        return self.jacobians.gradient_norm(self.x, self._sum)

    @property
    def terms(self) -> list[Bound]:
        """The bounds from which :meth:`error` is computed."""
        return [
            self.rate,
            self.smoothness,
            self.L_J,
            self.L_B,
            self.jacobians.norm_evidence(len(self.x)),
            arithmetic_of(self.x, self.jacobians.parameters),
        ]

    def error(self, layers: int, restarts: int) -> float:
        """Return a bound of the error of ReTune's gradient.

        :param int layers: iterations in a block.
        :param int restarts: applications of the block.
        :return: the bound.
        """
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
            [self._iterate_distance(last - p) for p in range(layers + 1)],
            self._cotangents[:layers],
            self.smoothness.value,
            self.beta,
            self.L_J.value,
            self.L_B.value,
        )
        return outward(neumann + retune, relative=1e-10)

    def _series(self, order: int) -> tuple[float, float]:
        r"""Return bounds of the norms of :math:`u_P` and of
        :math:`u_0 + \dots + u_{P-1}`."""
        while len(self._cotangents) <= order:
            self._sum = self._sum + self._cotangent
            self._cotangent = self.jacobians.state_vjp(self.x, self._cotangent)
            # Each product is rounded, relative to its argument.
            rounding = ROUNDING * self._cotangents[0]
            self._cotangents.append(_vector_norm(self._cotangent) + rounding)
            self._sums.append(_vector_norm(self._sum) + rounding * len(self._sums))
        return self._cotangents[order], self._sums[order]

    def _iterate_distance(self, k: int) -> float:
        r"""Return a bound of :math:`\|x_k - x\|`."""
        while k >= len(self._distances):
            known = len(self._distances)
            if self._distances[-1] <= self.left or known > LARGEST_BUDGET:
                # No later iterate is farther from the fixed point.
                return self._distances[-1] + 2 * self.left
            with torch.no_grad():
                value = self.jacobians.step(self._iterate)
            assert isinstance(value, Tensor)
            self._iterate = value
            self._distances.append(_distance(value, self.x))
        return self._distances[k]


def _vector_norm(x: Tensor) -> float:
    return float(sample_norms(x).norm()) * (1 + ROUNDING)


def _distance(x: Tensor, other: Tensor) -> float:
    return _vector_norm(x - other) + ROUNDING * (_vector_norm(x) + _vector_norm(other))
