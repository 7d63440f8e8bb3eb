r"""
How an energy decreases along the iterations of proximal gradient descent.

In this module :math:`F = f + g`, where :math:`f` has
:math:`\mu I \preceq \nabla^2 f \preceq L I` and :math:`g - \tfrac m2 \|\cdot\|^2` is
convex; :math:`\mu` and :math:`m` may be negative, and :math:`\tau m > -1`. An iteration
is

.. math::

    T(x) = \operatorname{prox}_{\tau g}(x - \tau \nabla f(x)).

Gradient descent is the case :math:`g = 0`, with :math:`f = F` and
:math:`T(x) - x = - \tau \nabla F(x)`. Each constant is rounded to its safe side.
"""

from __future__ import annotations

import math

from .forward_backward_rates import (
    gradient_step,
    require_nonnegative,
    require_ordered,
    rounded_up,
)


def decrease(L: float, tau: float, m: float = 0.0) -> float:
    r"""
    Return the constant :math:`\delta = \tfrac1\tau - \tfrac{L - m}{2}` of

    .. math::

        F(x) - F(T(x)) \ge \delta \|T(x) - x\|^2,

    positive for :math:`\tau (L - m) < 2`. For gradient descent the right-hand side is
    :math:`\tau (1 - \tau L / 2) \|\nabla F(x)\|^2`.

    Proof: :math:`T(x)` minimises the :math:`(1/\tau + m)`-strongly convex function
    :math:`z \mapsto \langle \nabla f(x), z - x \rangle + \tfrac{1}{2 \tau} \|z - x\|^2
    + g(z)`. Compare its values at :math:`x` and :math:`T(x)`, and use
    :math:`f(z) \le f(x) + \langle \nabla f(x), z - x \rangle + \tfrac L2 \|z - x\|^2`.

    If :math:`\delta > 0`, every limit point of the iterates is a fixed point of
    :math:`T`, a critical point of :math:`F`: along the iterates :math:`F` falls to its
    value there, so the residuals :math:`\|T(x_k) - x_k\|` tend to 0, and :math:`T` is
    continuous.

    :param float L: upper end :math:`L` of the spectrum of :math:`\nabla^2 f`.
    :param float tau: step size :math:`\tau > 0`.
    :param float m: :math:`m`; 0 for gradient descent. Default: 0.
    :return: :math:`\delta`, rounded downwards; 0 if it is not proved to be positive, or
        :math:`\tau m > -1` does not hold.
    """
    require_nonnegative(tau=tau)
    if tau == 0 or math.isinf(L) or _has_no_prox(tau, m):
        return 0.0
    half = (L - m) / 2
    return max(1 / tau - half - 2.0**-50 * (1 / tau + abs(L) + abs(m)), 0.0)


def block_decrease(decreases: list[float]) -> float:
    r"""
    Return the constant :math:`(\sum_k \delta_k^{-1})^{-1}` of a block of iterations on
    one energy, by the inequality of Cauchy and Schwarz for
    :math:`\sum_k \delta_k \|x_k - x_{k-1}\|^2`.

    :param list decreases: the constants :math:`\delta_k` of the iterations.
    :return: the constant, rounded downwards.
    """
    if min(decreases) == 0:
        return 0.0
    if len(decreases) == 1:
        return decreases[0]
    return (1 - 2.0**-40) / sum(1 / value for value in decreases)


def value_after_steps(mu: float, L: float, tau: float, m: float | None = None) -> float:
    r"""
    Return a constant :math:`c` with

    .. math::

        F(x_k) - F(x^\star) \le \frac ck \|x_0 - x^\star\|^2

    for every minimiser :math:`x^\star` and every :math:`k \ge 1`, if :math:`F` is
    convex.

    For a weakly convex :math:`g`, move the curvature :math:`\delta = -m` from :math:`f`
    to :math:`g`: the iteration is that of the convex functions :math:`f -
    \tfrac\delta2 \|\cdot\|^2` and :math:`g + \tfrac\delta2 \|\cdot\|^2` at the step
    size :math:`\tau_0 = \tau / (1 - \tau \delta)`. For :math:`\tau L \le 1` the
    constant is :math:`1 / (2 \tau_0)`, from
    :math:`F(T(x)) - F(x^\star) \le \tfrac{1}{2 \tau_0} (\|x - x^\star\|^2
    - \|T(x) - x^\star\|^2)`. For gradient descent with :math:`1 < \tau L < 2` it is
    :math:`1 / (\tau (1 - \tau L / 2))`: the sequence :math:`\Delta_k = F(x_k) -
    F(x^\star) \le \|\nabla F(x_k)\| \, \|x_0 - x^\star\|` satisfies
    :math:`\Delta_{k+1} \le \Delta_k - \Delta_k^2 / (c \|x_0 - x^\star\|^2)`.

    :param float mu: lower end :math:`\mu` of the spectrum of :math:`\nabla^2 f`.
    :param float L: upper end :math:`L`.
    :param float tau: step size :math:`\tau > 0`.
    :param float m: :math:`m`; ``None`` for gradient descent. Default: ``None``.
    :return: :math:`c`; infinite if :math:`F` is not proved to be convex, or the step
        size is too large.
    """
    require_nonnegative(tau=tau)
    require_ordered(mu, L)
    moved = max(-(m or 0.0), 0.0)
    if mu < moved or tau == 0 or math.isinf(L) or _has_no_prox(tau, -moved):
        return math.inf
    if tau * L * (1 + 2.0**-50) <= 1:
        return rounded_up((1 / tau - moved) / 2, 1 / tau)
    slope = decrease(L, tau) if m is None else 0.0
    return rounded_up(1 / (tau * tau * slope)) if slope > 0 else math.inf


def value_of_residual(mu: float, L: float, tau: float, m: float = 0.0) -> float:
    r"""
    Return the constant :math:`c = q^2 / (2 \tau^2 (\mu + m))`, with
    :math:`q = \max(|1 - \tau \mu|, |1 - \tau L|)`, of

    .. math::

        F(T(x)) - \min F \le c \|T(x) - x\|^2

    for a strongly convex energy, :math:`\mu + m > 0`.

    Proof: :math:`\tfrac1\tau (x - T(x)) - \nabla f(x) + \nabla f(T(x))` is a
    subgradient of :math:`F` at :math:`T(x)`, of norm at most :math:`\tfrac q\tau
    \|T(x) - x\|`, and :math:`F(z) - \min F \le \|\partial F(z)\|^2 / (2 (\mu + m))`.

    :param float mu: lower end :math:`\mu` of the spectrum of :math:`\nabla^2 f`.
    :param float L: upper end :math:`L`.
    :param float tau: step size :math:`\tau > 0`.
    :param float m: :math:`m`; 0 for gradient descent. Default: 0.
    :return: :math:`c`; infinite if :math:`F` is not proved to be strongly convex.
    """
    require_nonnegative(tau=tau)
    convexity = mu + m - 2.0**-51 * (abs(mu) + abs(m))
    if convexity <= 0 or tau == 0 or math.isinf(L):
        return math.inf
    q = gradient_step(mu, L, tau)
    return rounded_up(q * q / (2 * tau * tau * convexity))


def _has_no_prox(tau: float, m: float) -> bool:
    r"""Whether :math:`\tau m > -1` is not proved."""
    return not 1 + tau * m > 2.0**-51 * (1 + abs(tau * m))
