r"""
Theorems about the error of approximate gradients of a fixed point.

In this module :math:`f(\cdot, \theta)` is a :math:`\delta`-contraction with fixed point
:math:`\hat x`, :math:`\ell` is the loss, and :math:`g` is the gradient of
:math:`\ell(\hat x(\theta))` in :math:`\theta`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def jacobian_free_error(
    rate: float, loss_gradient: float, parameter_jacobian: float, order: int = 0
) -> float:
    r"""
    Bound the error of a truncated Neumann series at the fixed point. This is Lemma 1 of
    the ReTune paper :footcite:p:`davy2025restarted`, equation (29), extended from order
    0, which is Jacobian-free backpropagation, to order :math:`P`:

    .. math::

        \|g - g^{(P)}\| \leq \frac{\delta^{P + 1}}{1 - \delta}\,
        \|\nabla \ell(\hat x)\|\, \|\partial_\theta f(\hat x)\|.

    :param float rate: :math:`\delta`.
    :param float loss_gradient: bound of :math:`\|\nabla \ell(\hat x)\|`.
    :param float parameter_jacobian: bound of :math:`\|\partial_\theta f(\hat x)\|`.
    :param int order: :math:`P`, at least 0. Default: 0.
    :return: the bound; infinite unless :math:`\delta < 1`.
    """
    if not rate < 1:
        return math.inf
    return rate ** (order + 1) / (1 - rate) * loss_gradient * parameter_jacobian


def retune_error(
    rate: float,
    restarts: int,
    distance: float,
    loss_gradient: float,
    loss_smoothness: float,
    parameter_jacobian: float,
    last_parameter_jacobian: float,
    parameter_jacobian_lipschitz: float,
) -> float:
    r"""
    Bound the error of ReTune's gradient. This is Theorem 2 of the ReTune paper
    :footcite:p:`davy2025restarted`, equation (33), corrected: with
    :math:`x_t = f^t(x_0)` and
    :math:`g^R = \partial_\theta f(x_{T-1})^\top \nabla \ell(x_T)`,

    .. math::

        \|g - g^R\| \leq \frac{\delta}{1 - \delta}\, \|\nabla \ell(\hat x)\|\,
        \|\partial_\theta f(\hat x)\|
        + \delta^{T - 1} L_\theta\, \|\hat x - x_0\|\, \|\nabla \ell(\hat x)\|
        + \delta^T \|\hat x - x_0\|\, L_\ell\, \|\partial_\theta f(x_{T-1})\|.

    There are two differences from the paper. The paper has :math:`\delta^T` in the
    second term, but the Jacobian is evaluated at :math:`x_{T-1}`, whose distance from
    the fixed point is only bounded by :math:`\delta^{T-1} \|\hat x - x_0\|`; the proof
    replaces :math:`x_{K(T-1)}` by :math:`x_{KT}` before equation (40). The paper also
    uses the Hessian of the loss and a remainder. Here a Lipschitz constant
    :math:`L_\ell` of the gradient of the loss makes the remainder unnecessary.

    :param float rate: :math:`\delta`, of the block that is applied :math:`T` times.
    :param int restarts: :math:`T`, at least 1.
    :param float distance: bound of :math:`\|\hat x - x_0\|`.
    :param float loss_gradient: bound of :math:`\|\nabla \ell(\hat x)\|`.
    :param float loss_smoothness: :math:`L_\ell`.
    :param float parameter_jacobian: bound of :math:`\|\partial_\theta f(\hat x)\|`.
    :param float last_parameter_jacobian: bound of
        :math:`\|\partial_\theta f(x_{T-1})\|`.
    :param float parameter_jacobian_lipschitz: :math:`L_\theta`, with
        :math:`\|\partial_\theta f(x) - \partial_\theta f(\hat x)\| \leq L_\theta
        \|x - \hat x\|`.
    :return: the bound; infinite unless :math:`\delta < 1`.
    """
    if not rate < 1:
        return math.inf
    return (
        jacobian_free_error(rate, loss_gradient, parameter_jacobian)
        + rate ** (restarts - 1)
        * parameter_jacobian_lipschitz
        * distance
        * loss_gradient
        + rate**restarts * distance * loss_smoothness * last_parameter_jacobian
    )


def retune_squared_error(
    rate: float,
    restarts: int,
    distance: float,
    error: float,
    parameter_jacobian: float,
    last_parameter_jacobian: float,
    parameter_jacobian_lipschitz: float,
) -> float:
    r"""
    Bound the error of ReTune's gradient for the loss
    :math:`\ell(x) = \tfrac{1}{2} \|x - \bar x\|^2`. This is Corollary 1 of the ReTune
    paper :footcite:p:`davy2025restarted`, equation (42), with the correction of
    :func:`retune_error
    <deepinv_equilibrium.certificates.gradients.retune_error>`:

    .. math::

        \|g - g^R\| \leq \frac{\delta}{1 - \delta}\, \|\hat x - \bar x\|\,
        \|\partial_\theta f(\hat x)\|
        + \delta^{T - 1} \|x_0 - \hat x\| \left(
        \delta\, \|\partial_\theta f(x_{T-1})\| + L_\theta \|\hat x - \bar x\| \right).

    :param float rate: :math:`\delta`, of the block that is applied :math:`T` times.
    :param int restarts: :math:`T`, at least 1.
    :param float distance: bound of :math:`\|\hat x - x_0\|`.
    :param float error: bound of :math:`\|\hat x - \bar x\|`.
    :param float parameter_jacobian: bound of :math:`\|\partial_\theta f(\hat x)\|`.
    :param float last_parameter_jacobian: bound of
        :math:`\|\partial_\theta f(x_{T-1})\|`.
    :param float parameter_jacobian_lipschitz: :math:`L_\theta`, with
        :math:`\|\partial_\theta f(x) - \partial_\theta f(\hat x)\| \leq L_\theta
        \|x - \hat x\|`.
    :return: the bound; infinite unless :math:`\delta < 1`.
    """
    return retune_error(
        rate,
        restarts,
        distance,
        error,
        1.0,
        parameter_jacobian,
        last_parameter_jacobian,
        parameter_jacobian_lipschitz,
    )


def trajectory_error(
    rate: float,
    distances: Sequence[float],
    cotangents: Sequence[float],
    loss_smoothness: float,
    parameter_jacobian: float,
    jacobian_lipschitz: float,
    parameter_jacobian_lipschitz: float,
) -> float:
    r"""
    Bound the distance between the gradient :math:`g^R` of ReTune with :math:`K` layers
    and the Neumann series :math:`g^{(K-1)}` of order :math:`K - 1` at a point
    :math:`x` near its trajectory. With :math:`B = \partial_\theta f`,
    :math:`J = \partial_x f`, the iterates :math:`x_0, \dots, x_N`, and
    :math:`u_p = (J(x)^\top)^p \nabla \ell(x)`,

    .. math::

        g^R = \sum_{p=0}^{K-1} B(x_{N-1-p})^\top w_p, \qquad
        w_p = J(x_{N-p})^\top w_{p-1}, \quad w_0 = \nabla \ell(x_N), \qquad
        g^{(K-1)} = \sum_{p=0}^{K-1} B(x)^\top u_p.

    Since :math:`w_p - u_p = J(x_{N-p})^\top (w_{p-1} - u_{p-1}) + (J(x_{N-p}) -
    J(x))^\top u_{p-1}`, with :math:`d_k \geq \|x_k - x\|`

    .. math::

        \|w_p - u_p\| \leq \delta_p = \rho\, \delta_{p-1} + L_J d_{N-p} \|u_{p-1}\|,
        \qquad \delta_0 = L_\ell d_N,

    .. math::

        \|g^R - g^{(K-1)}\| \leq \sum_{p=0}^{K-1} \left( \|B(x)\| \delta_p
        + L_B d_{N-1-p} (\|u_p\| + \delta_p) \right).

    :param float rate: :math:`\rho`, a Lipschitz constant of one iteration.
    :param Sequence distances: :math:`d_N, d_{N-1}, \dots, d_{N-K}`.
    :param Sequence cotangents: :math:`\|u_0\|, \dots, \|u_{K-1}\|`.
    :param float loss_smoothness: :math:`L_\ell`, a Lipschitz constant of
        :math:`\nabla \ell`.
    :param float parameter_jacobian: :math:`\|B(x)\|`.
    :param float jacobian_lipschitz: :math:`L_J`, a Lipschitz constant of :math:`J` in
        the state.
    :param float parameter_jacobian_lipschitz: :math:`L_B`, a Lipschitz constant of
        :math:`B` in the state.
    :return: the bound.
    """
    change = loss_smoothness * distances[0]
    error = 0.0
    for p, cotangent in enumerate(cotangents):
        if p:
            change = rate * change + (
                jacobian_lipschitz * distances[p] * cotangents[p - 1]
            )
        error += parameter_jacobian * change + (
            parameter_jacobian_lipschitz * distances[p + 1] * (cotangent + change)
        )
    return error
