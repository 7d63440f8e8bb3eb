"""How fast the derivatives of a step change with its state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..bounds import Bound, Kind, derived
from .smooth_loss import Loss, SmoothLoss, loss_gradient
from .step_jacobians import StepJacobians, sample_norms

RANDOM_PROBES = 3


@dataclass(frozen=True)
class StepConstants:
    r"""
    Lipschitz constants of the derivatives of a step :math:`f(x, \theta)` in its state,

    .. math::

        \|\partial_x f(x) - \partial_x f(\hat x)\| \leq L_J \|x - \hat x\|, \qquad
        \|\partial_\theta f(x) - \partial_\theta f(\hat x)\| \leq L_B \|x - \hat x\|,

    in spectral norms and for every sample, at the states :math:`x` that a solve visits
    and its fixed point :math:`\hat x`. An affine step has :math:`L_J = 0`. Parameters
    are counted as they are learned: deepinv_equilibrium learns the logarithms of step
    sizes and strengths.

    :param Bound jacobian_lipschitz: :math:`L_J`.
    :param Bound parameter_jacobian_lipschitz: :math:`L_B`.
    :raises ValueError: if one is a lower bound.
    """

    jacobian_lipschitz: Bound
    parameter_jacobian_lipschitz: Bound

    def __post_init__(self) -> None:
        for name, bound in vars(self).items():
            if bound.is_lower:
                raise ValueError(f"{name} must bound from above, got {bound}.")

    def of_block(
        self, layers: int, rate: Bound, parameter_jacobian: Bound
    ) -> StepConstants:
        r"""
        The constants of :math:`K` applications of the step, from those of one: with
        its rate :math:`\rho` and :math:`\beta \geq \|\partial_\theta f(\hat x)\|`,

        .. math::

            L_J^{(K)} = L_J \rho^{K-1} \sum_{i<K} \rho^i, \qquad
            L_B^{(K)} = K \rho^{K-1} L_B + \beta L_J
            \sum_{j<K-1} \rho^{K-2-j} \sum_{i=j+1}^{K-1} \rho^i,

        by exchanging the factors of :math:`\sum_j J(x_{K-1}) \cdots J(x_{j+1}) B(x_j)`
        for those at :math:`\hat x` one at a time, as :math:`x_i` is within
        :math:`\rho^i \|x - \hat x\|` of it.

        :param int layers: :math:`K`, at least 1.
        :param Bound rate: :math:`\rho`, below 1.
        :param Bound parameter_jacobian: :math:`\beta`.
        """
        rho, L_J = rate.value, self.jacobian_lipschitz
        L_B, beta = self.parameter_jacobian_lipschitz, parameter_jacobian
        powers = [rho**i for i in range(layers)]
        moved = sum(
            rho ** (layers - 2 - j) * sum(powers[j + 1 :]) for j in range(layers - 1)
        )
        source = f"{layers} applications of a step"
        return StepConstants(
            derived(L_J.value * powers[-1] * sum(powers), (L_J, rate), source),
            derived(
                layers * powers[-1] * L_B.value + beta.value * L_J.value * moved,
                (L_J, L_B, rate, beta),
                source,
            ),
        )


def estimate_constants(
    jacobians: StepJacobians,
    x: Tensor,
    cotangent: Tensor,
    radius: Tensor,
    directions: Iterable[Tensor],
) -> StepConstants:
    r"""
    Estimate the constants of a step by differences: the largest over some states at a
    distance from :math:`x`, of all samples. Not a bound: a state in between, or in
    another direction, may have more.

    :param StepJacobians jacobians: the derivatives of the step.
    :param torch.Tensor x: where, of shape :math:`(B, ...)`.
    :param torch.Tensor cotangent: :math:`c`; :math:`L_J` is probed as
        :math:`\|(J(x) - J(x'))^\top c\| / (\|x - x'\| \|c\|)`.
    :param torch.Tensor radius: the distances, of shape :math:`(B,)`.
    :param Iterable directions: directions to probe, besides a few random ones.
    """
    L_J = L_B = 0.0
    scale = sample_norms(cotangent)
    scale = torch.where(scale > 0, scale, 1.0)
    product = jacobians.state_vjp(x, cotangent)
    for other in probes(x, radius, directions):
        distance = sample_norms(other - x)
        distance = torch.where(distance > 0, distance, torch.inf)
        change = sample_norms(jacobians.state_vjp(other, cotangent) - product)
        L_J = max(L_J, float((change / scale / distance).max()))
        change = jacobians.parameter_change(x, other, cotangent)
        L_B = max(L_B, float((change / distance).max()))
    return StepConstants(_estimate(L_J), _estimate(L_B))


def estimate_smoothness(
    loss: Loss, x: Tensor, radius: Tensor, directions: Iterable[Tensor]
) -> Bound:
    r"""
    The constant of a :class:`SmoothLoss`, or an estimate for another loss: the largest
    difference of its gradient over some states, of all samples.

    :param Callable loss: the loss.
    :param torch.Tensor x: where, of shape :math:`(B, ...)`.
    :param torch.Tensor radius: how far to probe, of shape :math:`(B,)`.
    :param Iterable directions: directions to probe, besides a few random ones.
    """
    if isinstance(loss, SmoothLoss):
        return loss.smoothness
    at_x = loss_gradient(loss, x)
    ratios = [
        float((loss_gradient(loss, other) - at_x).double().norm())
        / max(float((other - x).double().norm()), 1e-300)
        for other in probes(x, radius, directions)
    ]
    return _estimate(max(ratios))


def probes(x: Tensor, radius: Tensor, directions: Iterable[Tensor]) -> list[Tensor]:
    """States at given distances, in given directions and a few random ones."""
    generator = torch.Generator().manual_seed(0)
    random = [
        torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
        for _ in range(RANDOM_PROBES)
    ]
    size = sample_norms(x)
    # A difference over less than this is rounding.
    least = torch.finfo(x.dtype).eps ** 0.5 * torch.where(size > 0, size, 1.0)
    radius = torch.nan_to_num(radius, posinf=0.0).maximum(least)
    shape = (-1, *[1] * (x.ndim - 1))
    states = []
    for direction in [*directions, *random]:
        length = sample_norms(direction)
        step = torch.where(length > 0, radius / length, 0.0)
        states.append(x + direction * step.reshape(shape).to(x))
    return states


def _estimate(value: float) -> Bound:
    return derived(
        value,
        [Bound(0.0, Kind.ESTIMATED, point="the last iterate")],
        "largest of a few differences",
    )
