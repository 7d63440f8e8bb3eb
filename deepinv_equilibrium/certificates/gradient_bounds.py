r"""
How far approximate gradients of a fixed point can be from the exact one: the theorems.

Throughout, :math:`f(\cdot, \theta)` is a :math:`\delta`-contraction with fixed point
:math:`\hat x`, :math:`\ell` the loss, and :math:`g` the gradient of
:math:`\ell(\hat x(\theta))`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def jacobian_free_error(
    rate: float, loss_gradient: float, parameter_jacobian: float, order: int = 0
) -> float:
    r"""
    Lemma 1 of the ReTune paper :footcite:p:`davy2025restarted`, equation (29), and its
    extension to a Neumann series of order :math:`P`: at the fixed point,

    .. math::

        \|g - g^{(P)}\| \leq \frac{\delta^{P + 1}}{1 - \delta}\,
        \|\nabla \ell(\hat x)\|\, \|\partial_\theta f(\hat x)\|.

    Order 0 is Jacobian-free backpropagation, the paper's case.

    :param float rate: :math:`\delta`.
    :param float loss_gradient: bound of :math:`\|\nabla \ell(\hat x)\|`.
    :param float parameter_jacobian: bound of :math:`\|\partial_\theta f(\hat x)\|`.
    :param int order: :math:`P`, at least 0. Default: 0.
    :return: the bound, infinite unless :math:`\delta < 1`.
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
    Theorem 2 of the ReTune paper :footcite:p:`davy2025restarted`, equation (33),
    corrected: with :math:`x_t = f^t(x_0)` and
    :math:`g^R = \partial_\theta f(x_{T-1})^\top \nabla \ell(x_T)`,

    .. math::

        \|g - g^R\| \leq \frac{\delta}{1 - \delta}\, \|\nabla \ell(\hat x)\|\,
        \|\partial_\theta f(\hat x)\|
        + \delta^{T - 1} L_\theta\, \|\hat x - x_0\|\, \|\nabla \ell(\hat x)\|
        + \delta^T \|\hat x - x_0\|\, L_\ell\, \|\partial_\theta f(x_{T-1})\|.

    The paper has :math:`\delta^T` in the second term. But the Jacobian is taken at
    :math:`x_{T-1}`, which is only :math:`\delta^{T-1} \|\hat x - x_0\|` from the fixed
    point: its proof exchanges :math:`x_{K(T-1)}` for :math:`x_{KT}` before equation
    (40). And where it has the Hessian of the loss and a remainder, here
    :math:`L_\ell`, a Lipschitz constant of :math:`\nabla \ell`, leaves none.

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
    :return: the bound, infinite unless :math:`\delta < 1`.
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
    Corollary 1 of the ReTune paper :footcite:p:`davy2025restarted`, equation (42),
    corrected as :func:`retune_error`: the case
    :math:`\ell(x) = \tfrac{1}{2} \|x - \bar x\|^2`,

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
    :param float parameter_jacobian_lipschitz: :math:`L_\theta`, as there.
    :return: the bound, infinite unless :math:`\delta < 1`.
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


def layered_retune_error(
    rate: float,
    layers: int,
    restarts: int,
    distance: Tensor,
    loss_gradient: Tensor,
    loss_smoothness: float,
    parameter_jacobian: Tensor,
    jacobian_lipschitz: float,
    parameter_jacobian_lipschitz: float,
) -> float:
    r"""
    The error of ReTune with :math:`K` layers and :math:`T` restarts, from what is known
    of one of its iterations: with :math:`B = \partial_\theta f`, :math:`J =
    \partial_x f`, :math:`x_k = f^k(x_0)` and :math:`N = KT`,

    .. math::

        g^R = \sum_{p=0}^{K-1} B(x_{N-1-p})^\top J(x_{N-p})^\top \cdots
        J(x_{N-1})^\top\, \nabla \ell(x_N), \qquad
        g = \sum_{p=0}^{\infty} B(\hat x)^\top (J(\hat x)^\top)^p\,
        \nabla \ell(\hat x).

    The terms from :math:`K` on are missing; in the others the loss, each :math:`J` and
    :math:`B` are taken at :math:`x_k` with :math:`\|x_k - \hat x\| \leq \rho^k d`.
    Exchanging them one at a time gives, for a sample, with :math:`G = \|\nabla
    \ell(\hat x)\|`, :math:`G_N = G + L_\ell \rho^N d` and :math:`S = \sum_{p < K}
    (1 - \rho^p) / (1 - \rho)`,

    .. math::

        \|g - g^R\| \leq \beta G \frac{\rho^K}{1 - \rho}
        + \beta L_\ell \rho^N d\, \frac{1 - \rho^K}{1 - \rho}
        + (\beta L_J S + K L_B)\, \rho^{N - 1} d\, G_N.

    The first factor is Lemma 1's for a block. A gradient of several samples is the sum
    of theirs, and its error at most the sum of these; a loss that couples them is
    allowed.

    :param float rate: :math:`\rho`, of one iteration.
    :param int layers: :math:`K`, at least 1.
    :param int restarts: :math:`T`, at least 1.
    :param torch.Tensor distance: bounds :math:`d` of :math:`\|x_0 - \hat x\|`, of
        shape :math:`(B,)`.
    :param torch.Tensor loss_gradient: bounds :math:`G`, of shape :math:`(B,)`.
    :param float loss_smoothness: :math:`L_\ell`, of the loss of the whole batch.
    :param torch.Tensor parameter_jacobian: bounds :math:`\beta` of
        :math:`\|B(\hat x)\|`, of shape :math:`(B,)`.
    :param float jacobian_lipschitz: :math:`L_J`.
    :param float parameter_jacobian_lipschitz: :math:`L_B`.
    :return: the bound, infinite unless :math:`\rho < 1`.
    """
    if not rate < 1:
        return math.inf
    iterations = layers * restarts
    # Both sums without the cancellation that closed forms have for rates near 1.
    indices = torch.arange(layers, dtype=torch.float64)
    powers = rate**indices
    geometric = float(powers.sum())
    lag = float((powers * (layers - 1 - indices)).sum())
    change = float(loss_smoothness * rate**iterations * distance.norm())
    truncation = (parameter_jacobian * loss_gradient).sum() * rate**layers / (1 - rate)
    loss_moved = parameter_jacobian.norm() * geometric * change
    step_moved = (
        (
            parameter_jacobian * jacobian_lipschitz * lag
            + layers * parameter_jacobian_lipschitz
        )
        * rate ** (iterations - 1)
        * distance
        * (loss_gradient + change)
    ).sum()
    return float(truncation + loss_moved + step_moved)
