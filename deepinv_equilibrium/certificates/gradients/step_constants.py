"""Lipschitz constants of the derivatives of a step in its state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..bounds import Bound, Kind, derived
from .smooth_loss import Loss, SmoothLoss, loss_gradient
from .step_jacobians import StepJacobians, sample_norms

RANDOM_PROBES = 3
"""Number of random directions in which differences are taken."""


@dataclass(frozen=True)
class StepConstants:
    r"""
    Lipschitz constants of the derivatives of a step :math:`f(x, \theta)` in its state,

    .. math::

        \|\partial_x f(x) - \partial_x f(\hat x)\| \leq L_J \|x - \hat x\|, \qquad
        \|\partial_\theta f(x) - \partial_\theta f(\hat x)\| \leq L_B \|x - \hat x\|,

    in spectral norms, for every sample, for its fixed point :math:`\hat x` and all
    states :math:`x` that a solve visits. An affine step has :math:`L_J = 0`. The
    derivative is in the parameters that are learned: deepinv_equilibrium learns the
    logarithms of step sizes and regularisation weights.

    :param Bound jacobian_lipschitz: :math:`L_J`.
    :param Bound parameter_jacobian_lipschitz: :math:`L_B`.
    :raises ValueError: if either is a lower bound.
    """

    jacobian_lipschitz: Bound
    parameter_jacobian_lipschitz: Bound

    def __post_init__(self) -> None:
        for name, bound in vars(self).items():
            if bound.is_lower:
                raise ValueError(f"{name} must be an upper bound, got {bound}.")

    def of_block(
        self, layers: int, rate: Bound, parameter_jacobian: Bound
    ) -> StepConstants:
        r"""
        Return the constants of a block of :math:`K` applications of the step. With the
        rate :math:`\rho` of the step and
        :math:`\beta \geq \|\partial_\theta f(\hat x)\|` they are

        .. math::

            L_J^{(K)} = L_J \rho^{K-1} \sum_{i<K} \rho^i, \qquad
            L_B^{(K)} = K \rho^{K-1} L_B + \beta L_J
            \sum_{j<K-1} \rho^{K-2-j} \sum_{i=j+1}^{K-1} \rho^i.

        The proof replaces the factors of
        :math:`\sum_j J(x_{K-1}) \cdots J(x_{j+1}) B(x_j)` by their values at
        :math:`\hat x`, one at a time. It uses
        :math:`\|x_i - \hat x\| \leq \rho^i \|x - \hat x\|`.

        :param int layers: :math:`K`, at least 1.
        :param Bound rate: :math:`\rho`, below 1.
        :param Bound parameter_jacobian: :math:`\beta`.
        :return: the constants of the block.
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
    Estimate the constants of a step by differences between :math:`x` and states
    :math:`x'` around it. The result is the maximum over these states and all samples.
    It is not an upper bound: other states may have larger differences.

    :param StepJacobians jacobians: the derivatives of the step.
    :param torch.Tensor x: the centre :math:`x`, of shape :math:`(B, ...)`.
    :param torch.Tensor cotangent: a cotangent :math:`c`, of the shape of :math:`x`;
        :math:`L_J` is estimated by
        :math:`\|(J(x) - J(x'))^\top c\| / (\|x - x'\| \|c\|)`.
    :param torch.Tensor radius: the distances :math:`\|x - x'\|`, of shape :math:`(B,)`.
    :param Iterable directions: directions of :math:`x' - x`; a few random ones are
        added.
    :return: the estimates.
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
    return StepConstants(_estimated_bound(L_J), _estimated_bound(L_B))


def estimate_smoothness(
    loss: Loss, x: Tensor, radius: Tensor, directions: Iterable[Tensor]
) -> Bound:
    r"""
    Return the constant of a :class:`SmoothLoss`. For another loss, estimate the
    Lipschitz constant of its gradient by differences between :math:`x` and states
    :math:`x'` around it.

    :param Callable loss: the loss.
    :param torch.Tensor x: the centre :math:`x`, of shape :math:`(B, ...)`.
    :param torch.Tensor radius: the distances :math:`\|x - x'\|`, of shape :math:`(B,)`.
    :param Iterable directions: directions of :math:`x' - x`; a few random ones are
        added.
    :return: the constant or the estimate.
    """
    if isinstance(loss, SmoothLoss):
        return loss.smoothness
    at_x = loss_gradient(loss, x)
    ratios = [
        float((loss_gradient(loss, other) - at_x).double().norm())
        / max(float((other - x).double().norm()), 1e-300)
        for other in probes(x, radius, directions)
    ]
    return _estimated_bound(max(ratios))


def probes(x: Tensor, radius: Tensor, directions: Iterable[Tensor]) -> list[Tensor]:
    r"""
    Return states around a state, in given directions and a few random ones.

    :param torch.Tensor x: the state, of shape :math:`(B, ...)`.
    :param torch.Tensor radius: the distance of each sample, of shape :math:`(B,)`.
        Distances that are infinite or below rounding are replaced by the square root of
        the machine precision, relative to the sample.
    :param Iterable directions: the given directions, of the shape of :math:`x`.
    :return: the states.
    """
    generator = torch.Generator().manual_seed(0)
    random = [
        torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
        for _ in range(RANDOM_PROBES)
    ]
    size = sample_norms(x)
    # Differences over shorter distances are dominated by rounding.
    least = torch.finfo(x.dtype).eps ** 0.5 * torch.where(size > 0, size, 1.0)
    radius = torch.nan_to_num(radius, posinf=0.0).maximum(least)
    shape = (-1, *[1] * (x.ndim - 1))
    states = []
    for direction in [*directions, *random]:
        length = sample_norms(direction)
        step = torch.where(length > 0, radius / length, 0.0)
        states.append(x + direction * step.reshape(shape).to(x))
    return states


def _estimated_bound(value: float) -> Bound:
    return derived(
        value,
        [Bound(0.0, Kind.ESTIMATED, point="the last iterate")],
        "largest of a few differences",
    )
