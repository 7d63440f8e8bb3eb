"""The cheapest ReTune configuration whose gradient is accurate enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from deepinv.physics import Physics

from ...fixed_points.argument_checks import require_number
from ..bounds import Bound, Kind, derived
from .fixed_point_vicinity import LARGEST_BUDGET, FixedPointVicinity
from .gradient_errors import HasRate
from .recorded_gradient import EquilibriumModel, image_problem, trained_parameters
from .smooth_loss import Loss, require_loss
from .step_constants import StepConstants
from .step_jacobians import StepJacobians

BACKWARD_COST = 2.0
"""What recording and differentiating an evaluation costs, in evaluations."""


@dataclass(frozen=True)
class Plan:
    r"""
    Layers and restarts, ``layers, restarts = plan(...)``, as ``ReTune`` takes them.

    :param int layers: iterations in a block.
    :param int restarts: applications of the block.
    :param Bound error: of the gradient, absolute; certified or estimated.
    :param float tolerance: what it was asked to be at most, absolute:
        :math:`\varepsilon a`.
    :param float scale: :math:`a`, to which :math:`\varepsilon` is relative.
    :param float gradient_norm: of the gradient near the fixed point, as it was
        computed; far below :math:`a` where the rate is near 1.
    """

    layers: int
    restarts: int
    error: Bound
    tolerance: float
    scale: float
    gradient_norm: float

    def __iter__(self) -> Iterator[int]:
        return iter((self.layers, self.restarts))

    @property
    def kind(self) -> Kind:
        """Whether the tolerance is met for certain."""
        return self.error.kind

    def __str__(self) -> str:
        vain = self.error.value > self.gradient_norm
        return (
            f"layers={self.layers}, restarts={self.restarts}: error of the gradient "
            f"{self.error}{', larger than the gradient itself' * vain}\n"
            f"  asked for at most {self.tolerance:.3e} = "
            f"{self.tolerance / self.scale:.3g} a\n"
            f"  a = beta ||grad l|| / (1 - rho) = {self.scale:.3e}\n"
            f"  norm of the gradient {self.gradient_norm:.3e}"
        )


def plan(
    certificate: HasRate,
    model: EquilibriumModel,
    y: Any,
    physics: Physics,
    loss: Loss,
    tol: float,
    constants: StepConstants | None = None,
) -> Plan:
    r"""
    The cheapest number of layers :math:`K` and of restarts :math:`T` with which the
    gradient of :class:`ReTune <deepinv_equilibrium.ReTune>` is within a tolerance for
    this measurement,

    .. math::

        \|g - g^R\| \leq \varepsilon\, a, \qquad
        a = \frac{\|\partial_\theta f(x)\|\, \|\nabla \ell(x)\|}{1 - \rho},

    where :math:`x` is the fixed point as it was found. The tolerance is relative to
    :math:`a`, which bounds the gradient, as :math:`\|g\|` itself may vanish. The cost
    is :math:`KT` evaluations, of which :math:`K` are recorded and cost twice as much
    again.

    The error is that of the Neumann series of order :math:`K - 1` at :math:`x`,
    bounded as :func:`gradient_error <deepinv_equilibrium.certificates.gradient_error>`
    bounds it, and the distance of ReTune's gradient from that, by
    :func:`trajectory_error
    <deepinv_equilibrium.certificates.gradients.trajectory_error>`. Both take
    products with the Jacobian at :math:`x` and the distances of the iterates from
    :math:`x` as they are, for this measurement; only what is left is bounded with the
    rate. The recorded block starts at :math:`x_{K (T - 1)}`, so that :math:`KT`
    iterations, enough for the fixed point, may not be for the gradient. Every
    :math:`K` that can be the cheapest (above 100, one in a hundred) is tried.

    :param Certificate certificate: has the rate of the model's step.
    :param EquilibriumModel model: the model, whatever its solver and adjoint. Its step
        is a block of its layers: with :math:`K_0` of them, :math:`K` is a multiple of
        :math:`K_0`.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param Callable loss: from a batch of reconstructions to a scalar, best a
        :class:`SmoothLoss <deepinv_equilibrium.certificates.SmoothLoss>`.
    :param float tol: :math:`\varepsilon`, in :math:`(0, 1)`.
    :param StepConstants constants: of the model's step. Default: ``None``, estimated,
        and then so is the plan.
    :return: the plan, which unpacks into ``(layers, restarts)``.
    :raises ValueError: if no contraction is known, the tolerance is out of range or
        below the rounding of the model's precision, the gradient of the loss vanishes,
        or no plan of a reasonable size meets the tolerance.
    """
    rate = certificate.rate
    if not rate.value < 1:
        raise ValueError(
            f"a plan needs a rate below 1, and that of the certificate is {rate}."
        )
    require_number("tol", tol)
    require_loss(loss)
    with torch.enable_grad():
        step, x0 = image_problem(model, y, physics)
    floor = 8 * torch.finfo(x0.dtype).eps / (1 - rate.value)
    if not floor < tol < 1:
        raise ValueError(
            f"tol must be between {floor:.1e}, the rounding of {x0.dtype} over "
            f"1 - rate, and 1, got {tol!r}."
        )
    jacobians = StepJacobians(step, trained_parameters(model))
    around = FixedPointVicinity(jacobians, rate, x0.detach(), loss, constants)
    if not 0 < around.scale < math.inf:
        raise ValueError(
            "the tolerance is relative to the norms of the gradient of the loss and of "
            f"the parameter Jacobian, over 1 - rate: {around.scale}. Nothing can be "
            "planned."
        )
    layers, restarts = cheapest(around.error, tol * around.scale)
    return Plan(
        layers * model.equilibrium.layers,
        restarts,
        derived(around.error(layers, restarts), around.terms, "of ReTune's gradient"),
        tol * around.scale,
        around.scale,
        around.gradient_norm,
    )


def cheapest(error: Callable[[int, int], float], tolerance: float) -> tuple[int, int]:
    r"""
    The cheapest layers and restarts whose error is within a tolerance.

    :param Callable error: bound of the error for layers and restarts, which falls as
        restarts are added.
    :param float tolerance: what it may be at most.
    :raises ValueError: if the cheapest is too large.
    """
    best, lowest, layers = None, math.inf, 1
    while layers * (1 + BACKWARD_COST) < min(lowest, LARGEST_BUDGET):
        restarts = _least_restarts(error, tolerance, layers)
        if restarts is not None:
            cost = layers * (restarts + BACKWARD_COST)
            if cost < lowest:
                best, lowest = (layers, restarts), cost
        # One by one where it matters, then by about a hundredth.
        layers += 1 + layers // 100
    if best is None:
        raise ValueError(
            f"no plan of fewer than {LARGEST_BUDGET} evaluations has an error below "
            f"{tolerance:.3e}; ask for a larger tol, or make the step contract more."
        )
    return best


def _least_restarts(
    error: Callable[[int, int], float], tolerance: float, layers: int
) -> int | None:
    """The least number of restarts that meets the tolerance, if any does."""
    enough = 1
    while error(layers, enough) > tolerance:
        if layers * enough > LARGEST_BUDGET:
            return None
        enough *= 2
    too_few = enough // 2
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if error(layers, middle) > tolerance:
            too_few = middle
        else:
            enough = middle
    return enough
