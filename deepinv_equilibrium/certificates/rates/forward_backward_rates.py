r"""
Lipschitz constants of gradient steps and proximal iterations.

In this module :math:`f` is quadratic with :math:`\mu I \preceq \nabla^2 f \preceq L I`,
such as :math:`\tfrac12 \|Ax - y\|^2` with the extreme eigenvalues of
:math:`A^\top A`. The step size is :math:`\tau`, and :math:`D` is a denoiser or proximal
operator.

Each function returns an upper bound of the Lipschitz constant of one iteration in the
norm of its state; the rounding of its arithmetic is included. The iteration contracts
if the bound is below 1. A value of 1 or more is a Lipschitz constant, too; ``inf``
means that none is known. "Tight" means that some :math:`f` and :math:`D` attain the
bound. A :class:`ValueError` is raised for NaN, for a negative step size,
:math:`\beta`, :math:`\lambda` or Lipschitz constant, and for :math:`\mu > L`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

# Bound of the rounding error of each formula, relative to its operands.
_ROUNDING = 2.0**-48


def gradient_step(mu: float, L: float, tau: float) -> float:
    r"""
    Return the Lipschitz constant of :math:`x \mapsto x - \tau \nabla f(x)`,

    .. math::

        q(\mu, L, \tau) = \max(|1 - \tau \mu|, |1 - \tau L|),

    the largest modulus of an eigenvalue of :math:`I - \tau \nabla^2 f`. Its minimum
    :math:`(L - \mu) / (L + \mu)` is attained at :math:`\tau = 2 / (\mu + L)`. Tight.

    :param float mu: lower end :math:`\mu` of the spectrum of :math:`\nabla^2 f`; it may
        be negative.
    :param float L: upper end :math:`L`.
    :param float tau: step size :math:`\tau \ge 0`.
    :return: the Lipschitz constant.
    """
    require_nonnegative(tau=tau)
    require_ordered(mu, L)
    if tau == 0:
        return 1.0
    value = max(abs(1 - tau * mu), abs(1 - tau * L))
    return rounded_up(value, 1 + tau * max(abs(mu), abs(L)))


def proximal_gradient(mu: float, L: float, tau: float, lipschitz: float) -> float:
    r"""
    Return the Lipschitz constant :math:`L_D \, q(\mu, L, \tau)` of
    :math:`x \mapsto D(x - \tau \nabla f(x))` for an :math:`L_D`-Lipschitz :math:`D`,
    with :math:`q` of :func:`gradient_step`. Tight.

    If :math:`D - I` is :math:`\epsilon`-Lipschitz, as in Theorem 1 of
    :footcite:t:`ryu2019plug`, then :math:`L_D = 1 + \epsilon`.

    :param float mu: lower end :math:`\mu` of the spectrum of :math:`\nabla^2 f`.
    :param float L: upper end :math:`L`.
    :param float tau: step size :math:`\tau`.
    :param float lipschitz: :math:`L_D`.
    :return: the Lipschitz constant.
    """
    return _product(lipschitz, gradient_step(mu, L, tau))


def gradient_descent(mu: float, L: float, tau: float, lipschitz: float) -> float:
    r"""
    Return the Lipschitz constant :math:`q(\mu, L, \tau) + \tau \epsilon` of
    :math:`x \mapsto x - \tau (\nabla f(x) + R(x))` for an :math:`\epsilon`-Lipschitz
    :math:`R`, which need not be a gradient. It follows from the triangle inequality. It
    is below 1 only if :math:`\epsilon < \mu` and :math:`\tau < 2 / (L + \epsilon)`.
    Tight.

    :param float mu: lower end :math:`\mu` of the spectrum of :math:`\nabla^2 f`.
    :param float L: upper end :math:`L`.
    :param float tau: step size :math:`\tau`.
    :param float lipschitz: :math:`\epsilon`, including the weight of :math:`R`.
    :return: the Lipschitz constant.
    """
    require_nonnegative(lipschitz=lipschitz)
    return rounded_up(gradient_step(mu, L, tau) + tau * lipschitz)


def convex_gradient_descent(
    mu: float, L: float, tau: float, m: float, L_R: float
) -> float:
    r"""
    Return the Lipschitz constant :math:`q(\mu + m, L + L_R, \tau)` of
    :math:`x \mapsto x - \tau (\nabla f(x) + R(x))`, where :math:`R = \nabla g` has a
    symmetric Jacobian with :math:`m I \preceq \partial R \preceq L_R I`. Tight.

    :param float mu: lower end :math:`\mu` of the spectrum of :math:`\nabla^2 f`.
    :param float L: upper end :math:`L`.
    :param float tau: step size :math:`\tau`.
    :param float m: lower end :math:`m` of the spectrum of :math:`\partial R`, negative
        for a weakly convex :math:`g`.
    :param float L_R: upper end :math:`L_R`.
    :return: the Lipschitz constant.
    """
    lower, upper = mu + m, L + L_R
    slack = _ROUNDING * (abs(mu) + abs(m) + abs(L) + abs(L_R))
    return gradient_step(lower - slack, upper + slack, tau)


def red(mu: float, L: float, tau: float, weight: float, lipschitz: float) -> float:
    r"""
    Return the Lipschitz constant of an iteration of regularisation by denoising,
    :math:`x \mapsto x - \tau (\nabla f(x) + \lambda (x - D(x)))`, for an
    :math:`L_D`-Lipschitz :math:`D`:

    .. math::

        q(\mu + \lambda, L + \lambda, \tau) + \tau \lambda L_D.

    If :math:`L_D < 1`, the iteration contracts even for :math:`\mu = 0`. Tight.

    :param float mu: lower end :math:`\mu` of the spectrum of :math:`\nabla^2 f`.
    :param float L: upper end :math:`L`.
    :param float tau: step size :math:`\tau`.
    :param float weight: :math:`\lambda \ge 0`.
    :param float lipschitz: :math:`L_D`.
    :return: the Lipschitz constant.
    """
    require_nonnegative(weight=weight, lipschitz=lipschitz)
    linear = convex_gradient_descent(mu, L, tau, weight, weight)
    return rounded_up(linear + tau * weight * lipschitz)


def red_firmly_nonexpansive(mu: float, L: float, tau: float, weight: float) -> float:
    r"""
    Return the Lipschitz constant of an iteration of regularisation by denoising for a
    firmly nonexpansive :math:`D = \tfrac12 (I + N)`, with a nonexpansive :math:`N`.
    Since :math:`\lambda (I - D) = \tfrac{\lambda}{2} (I - N)`, it is the constant of
    :func:`red` for the weight :math:`\lambda / 2` and :math:`L_D = 1`,

    .. math::

        q(\mu + \tfrac{\lambda}{2}, L + \tfrac{\lambda}{2}, \tau)
        + \tau \tfrac{\lambda}{2}.

    It never exceeds the constant of :func:`red` for the weight :math:`\lambda` and
    :math:`L_D = 1`. It is below 1 for :math:`\mu > 0` and
    :math:`\tau < 2 / (L + \lambda)`. Tight.

    :param float mu: lower end :math:`\mu` of the spectrum of :math:`\nabla^2 f`.
    :param float L: upper end :math:`L`.
    :param float tau: step size :math:`\tau`.
    :param float weight: :math:`\lambda \ge 0`.
    :return: the Lipschitz constant.
    """
    return red(mu, L, tau, weight / 2, 1.0)


def de_grad(mu: float, L: float, eta: float, residual: float) -> float:
    r"""
    Return the Lipschitz constant :math:`q(1 + \mu, 1 + L, \eta) + \eta \epsilon` of an
    iteration of DE-GRAD, :math:`x \mapsto x - \eta (\nabla f(x) + S(x))`, for an
    :math:`\epsilon`-Lipschitz :math:`S - I`. Tight.

    For :math:`\eta < 1 / (1 + L)` it is :math:`1 - \eta (1 + \mu) + \eta \epsilon`,
    Theorem 1 of :footcite:t:`gilton2021deep`. DE-GRAD is the iteration of :func:`red`
    with :math:`\lambda = 1` and :math:`S = I - D`.

    :param float mu: lower end :math:`\mu` of the spectrum of :math:`\nabla^2 f`.
    :param float L: upper end :math:`L`.
    :param float eta: step size :math:`\eta`.
    :param float residual: :math:`\epsilon`.
    :return: the Lipschitz constant.
    """
    return red(mu, L, eta, 1.0, residual)


def half_quadratic_splitting(mu: float, tau: float, lipschitz: float) -> float:
    r"""
    Return the Lipschitz constant :math:`L_D / (1 + \tau \mu)` of
    :math:`x \mapsto D(\operatorname{prox}_{\tau f}(x))` for an :math:`L_D`-Lipschitz
    :math:`D`. The linear part of :math:`\operatorname{prox}_{\tau f}` is
    :math:`(I + \tau \nabla^2 f)^{-1}`. Tight.

    :param float mu: lower end :math:`\mu` of the spectrum of :math:`\nabla^2 f`, with
        :math:`\tau \mu > -1`.
    :param float tau: step size :math:`\tau`.
    :param float lipschitz: :math:`L_D`.
    :return: the Lipschitz constant.
    """
    require_prox(mu, tau)
    return _product(lipschitz, 1 / (1 + tau * mu))


def relaxed(rate: float, beta: float) -> float:
    r"""
    Return the Lipschitz constant :math:`|1 - \beta| + \beta \rho` of
    :math:`x \mapsto (1 - \beta) x + \beta T(x)` for a :math:`\rho`-Lipschitz
    :math:`T`. Tight.

    :param float rate: :math:`\rho`.
    :param float beta: :math:`\beta \ge 0`.
    :return: the Lipschitz constant.
    """
    require_nonnegative(rate=rate, beta=beta)
    if beta == 1:
        return rate
    return rounded_up(abs(1 - beta) + beta * rate, 1 + beta)


def block(rates: Iterable[float]) -> float:
    r"""
    Return the Lipschitz constant of a block of layers, the product of their constants.

    :param Iterable rates: the Lipschitz constants of the layers, all in the same norm.
    :return: the Lipschitz constant.
    """
    value = 1.0
    for rate in rates:
        value = value if rate == 1 else _product(value, rate)
    return value


def require_nonnegative(**values: float) -> None:
    """Raise a ValueError for a keyword argument that is negative or NaN."""
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"{name} must be a nonnegative number, got {value!r}.")


def require_prox(mu: float, tau: float) -> None:
    """Raise a ValueError unless ``tau >= 0`` and ``tau mu > -1``: the proximal operator
    is then a function."""
    require_nonnegative(tau=tau)
    if not tau * mu > -1:
        raise ValueError(f"mu must exceed -1/tau, got mu={mu!r} and tau={tau!r}.")


def require_ordered(mu: float, L: float) -> None:
    """Raise a ValueError unless ``mu <= L``."""
    if not mu <= L:
        raise ValueError(f"mu must be at most L, got mu={mu!r} and L={L!r}.")


def rounded_up(value: float, magnitude: float = 0.0) -> float:
    """
    Return an upper bound of the exact value of a formula.

    :param float value: the computed value; NaN counts as infinity.
    :param float magnitude: bound of the operands, if they may exceed the value.
        Default: 0.
    :return: the bound.
    """
    if math.isnan(value):
        return math.inf
    return math.nextafter(value + _ROUNDING * (value + magnitude), math.inf)


def _product(lipschitz: float, rate: float) -> float:
    require_nonnegative(lipschitz=lipschitz)
    return rounded_up(lipschitz * rate)
