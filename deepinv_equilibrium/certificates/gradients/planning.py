"""The cheapest ReTune configuration with a sufficiently accurate gradient."""

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
from .recorded_gradient import FixedPointModel, image_problem, trained_parameters
from .smooth_loss import Loss, require_loss
from .step_constants import StepConstants
from .step_jacobians import StepJacobians

BACKWARD_COST = 2.0
"""Cost of recording and differentiating an evaluation, in evaluations."""


@dataclass(frozen=True)
class Plan:
    r"""
    Numbers of layers and restarts for ``ReTune``. A plan unpacks:
    ``layers, restarts = plan(...)``.

    :param int layers: iterations in a block.
    :param int restarts: applications of the block.
    :param Bound error: absolute bound of the error of the gradient.
    :param float tolerance: absolute tolerance :math:`\varepsilon a` of the error.
    :param float scale: :math:`a`, to which the tolerance :math:`\varepsilon` is
        relative.
    :param float gradient_norm: computed norm of the gradient near the fixed point. It
        is far below :math:`a` if the rate is near 1.
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
        """The kind of the error bound: certified or estimated."""
        return self.error.kind

    def __str__(self) -> str:
        exceeds = self.error.value > self.gradient_norm
        return (
            f"layers={self.layers}, restarts={self.restarts}: error of the gradient "
            f"{self.error}{', larger than the gradient itself' * exceeds}\n"
            f"  asked for at most {self.tolerance:.3e} = "
            f"{self.tolerance / self.scale:.3g} a\n"
            f"  a = beta ||grad l|| / (1 - rho) = {self.scale:.3e}\n"
            f"  norm of the gradient {self.gradient_norm:.3e}"
        )


def plan(
    certificate: HasRate,
    model: FixedPointModel,
    y: Any,
    physics: Physics,
    loss: Loss,
    tol: float,
    constants: StepConstants | None = None,
) -> Plan:
    r"""
    Find the cheapest number of layers :math:`K` and of restarts :math:`T` with which
    the gradient :math:`g^R` of :class:`ReTune <deepinv_equilibrium.ReTune>` is within a
    tolerance for a measurement,

    .. math::

        \|g - g^R\| \leq \varepsilon\, a, \qquad
        a = \frac{\|\partial_\theta f(x)\|\, \|\nabla \ell(x)\|}{1 - \rho},

    where :math:`x` is the computed fixed point. The tolerance is relative to :math:`a`,
    a bound of the gradient, because :math:`\|g\|` itself may vanish. The cost is
    :math:`KT` evaluations, plus :math:`2K` for the :math:`K` evaluations that are
    recorded and differentiated.

    The error is the sum of two parts: the error of the Neumann series of order
    :math:`K - 1` at :math:`x`, bounded as in :func:`gradient_error
    <deepinv_equilibrium.certificates.gradient_error>`, and the distance of ReTune's
    gradient from that series, bounded by :func:`trajectory_error
    <deepinv_equilibrium.certificates.gradients.trajectory_error>`. Both use computed
    products with the Jacobian at :math:`x` and computed distances of the iterates from
    :math:`x`; the rate bounds only the remaining distance to the fixed point. The
    recorded block starts at :math:`x_{K (T - 1)}`, so that a number of iterations
    :math:`KT` that suffices for the fixed point may not suffice for the gradient. Every
    :math:`K` that can be the cheapest is tried; above 100, about one in a hundred
    values.

    :param Certificate certificate: an object with the rate of the model's step.
    :param FixedPointModel model: the model. Its solver and adjoint do not matter. Its
        step is a block of its :math:`K_0` layers, so that :math:`K` is a multiple of
        :math:`K_0`.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param Callable loss: a function from a batch of reconstructions to a scalar,
        preferably a :class:`SmoothLoss
        <deepinv_equilibrium.certificates.SmoothLoss>`.
    :param float tol: :math:`\varepsilon`, in :math:`(0, 1)`.
    :param StepConstants constants: constants of the model's step. Default: ``None``,
        they are estimated, and the plan is an estimate, too.
    :return: the plan, which unpacks into ``(layers, restarts)``.
    :raises TypeError: if ``tol`` is not a number, or the loss needs another argument
        than the reconstruction.
    :raises ValueError: if the rate is not below 1, the tolerance is out of range or
        below the rounding of the model's precision, the gradient of the loss vanishes,
        or no plan with at most 10 000 iterations meets the tolerance.
    """
    rate = certificate.rate
    if not rate.value < 1:
        raise ValueError(
            f"a plan needs a rate below 1, but the certificate's rate is {rate}."
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
            "the tolerance is relative to a = beta ||grad l|| / (1 - rho), which must "
            f"be positive and finite, got {around.scale}. Nothing can be planned: "
            "check the loss and the trained parameters."
        )
    layers, restarts = cheapest(around.error, tol * around.scale)
    return Plan(
        layers * model.DEQ.layers,
        restarts,
        derived(around.error(layers, restarts), around.terms, "of ReTune's gradient"),
        tol * around.scale,
        around.scale,
        around.gradient_norm,
    )


def cheapest(error: Callable[[int, int], float], tolerance: float) -> tuple[int, int]:
    r"""
    Return the cheapest numbers of layers and restarts with an error within a tolerance.

    :param Callable error: a bound of the error as a function of layers and restarts;
        it decreases with the restarts.
    :param float tolerance: largest allowed error.
    :return: layers and restarts.
    :raises ValueError: if none within the largest budget meets the tolerance.
    """
    best, lowest, layers = None, math.inf, 1
    while layers * (1 + BACKWARD_COST) < min(lowest, LARGEST_BUDGET):
        restarts = _least_restarts(error, tolerance, layers)
        if restarts is not None:
            cost = layers * (restarts + BACKWARD_COST)
            if cost < lowest:
                best, lowest = (layers, restarts), cost
        # In steps of one up to 100, then in steps of about one per cent.
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
    """Return the least number of restarts that meets the tolerance, or ``None``."""
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
