r"""
Lipschitz constants of iterations, from numbers.

Throughout, :math:`f` is quadratic with :math:`\mu I \preceq \nabla^2 f \preceq L I`,
e.g. :math:`\tfrac12 \|Ax - y\|^2` with the extreme eigenvalues of :math:`A^\top A`;
:math:`\tau` is the step size, and :math:`D` a denoiser or proximal operator. Every
function returns an upper bound of the Lipschitz constant of one iteration in the norm
of its state, moved upwards past the rounding of its own arithmetic. The iteration
contracts where that is below 1; a value of 1 or more is still a Lipschitz constant, and
``inf`` says that none is known. A negative step size, :math:`\beta`, :math:`\lambda` or
Lipschitz constant, a NaN, and :math:`\mu > L` raise a :class:`ValueError`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

# Bounds the rounding of the few operations in each formula, relative to its operands.
_ROUNDING = 2.0**-48


def gradient_step(mu: float, L: float, tau: float) -> float:
    r"""
    Of :math:`x \mapsto x - \tau \nabla f(x)`,

    .. math::

        q(\mu, L, \tau) = \max(|1 - \tau \mu|, |1 - \tau L|),

    the largest modulus of an eigenvalue of :math:`I - \tau \nabla^2 f`. Smallest at
    :math:`\tau = 2 / (\mu + L)`, where it is :math:`(L - \mu) / (L + \mu)`. Tight.

    :param float mu: lower end :math:`\mu` of the spectrum; it may be negative.
    :param float L: upper end :math:`L`.
    :param float tau: step size :math:`\tau \ge 0`.
    :return: the Lipschitz constant.
    """
    _require_nonnegative(tau=tau)
    _require_ordered(mu, L)
    if tau == 0:
        return 1.0
    value = max(abs(1 - tau * mu), abs(1 - tau * L))
    return _upwards(value, 1 + tau * max(abs(mu), abs(L)))


def proximal_gradient(mu: float, L: float, tau: float, lipschitz: float) -> float:
    r"""
    Of :math:`x \mapsto D(x - \tau \nabla f(x))` with an :math:`L_D`-Lipschitz
    :math:`D`: :math:`L_D \, q(\mu, L, \tau)`.

    With an :math:`\epsilon`-Lipschitz :math:`D - I`, as in Theorem 1 of
    :footcite:t:`ryu2019plug`, :math:`L_D = 1 + \epsilon`. Tight.

    :param float mu: lower end of the spectrum.
    :param float L: upper end.
    :param float tau: step size.
    :param float lipschitz: :math:`L_D`.
    :return: the Lipschitz constant.
    """
    return _product(lipschitz, gradient_step(mu, L, tau))


def gradient_descent(mu: float, L: float, tau: float, lipschitz: float) -> float:
    r"""
    Of :math:`x \mapsto x - \tau (\nabla f(x) + R(x))` with an
    :math:`\epsilon`-Lipschitz :math:`R`, the gradient of something or not:
    :math:`q(\mu, L, \tau) + \tau \epsilon`, by the triangle inequality.

    Below 1 only if :math:`\epsilon < \mu` and :math:`\tau < 2 / (L + \epsilon)`. Tight.

    :param float mu: lower end of the spectrum.
    :param float L: upper end.
    :param float tau: step size.
    :param float lipschitz: :math:`\epsilon`, with the weight of :math:`R` in it.
    :return: the Lipschitz constant.
    """
    _require_nonnegative(lipschitz=lipschitz)
    return _upwards(gradient_step(mu, L, tau) + tau * lipschitz)


def convex_gradient_descent(
    mu: float, L: float, tau: float, m: float, L_R: float
) -> float:
    r"""
    Of :math:`x \mapsto x - \tau (\nabla f(x) + R(x))` where :math:`R = \nabla g` has a
    symmetric Jacobian with :math:`m I \preceq \partial R \preceq L_R I`:
    :math:`q(\mu + m, L + L_R, \tau)`. Tight.

    :param float mu: lower end of the spectrum of :math:`\nabla^2 f`.
    :param float L: upper end.
    :param float tau: step size.
    :param float m: lower end of that of :math:`\partial R`; negative for a weakly
        convex :math:`g`.
    :param float L_R: upper end.
    :return: the Lipschitz constant.
    """
    lower, upper = mu + m, L + L_R
    slack = _ROUNDING * (abs(mu) + abs(m) + abs(L) + abs(L_R))
    return gradient_step(lower - slack, upper + slack, tau)


def red(mu: float, L: float, tau: float, weight: float, lipschitz: float) -> float:
    r"""
    Of regularisation by denoising,
    :math:`x \mapsto x - \tau (\nabla f(x) + \lambda (x - D(x)))`, with an
    :math:`L_D`-Lipschitz :math:`D`:

    .. math::

        q(\mu + \lambda, L + \lambda, \tau) + \tau \lambda L_D.

    For :math:`L_D < 1` it contracts with :math:`\mu = 0`. Tight.

    :param float mu: lower end of the spectrum.
    :param float L: upper end.
    :param float tau: step size.
    :param float weight: :math:`\lambda \ge 0`.
    :param float lipschitz: :math:`L_D`.
    :return: the Lipschitz constant.
    """
    _require_nonnegative(weight=weight, lipschitz=lipschitz)
    linear = convex_gradient_descent(mu, L, tau, weight, weight)
    return _upwards(linear + tau * weight * lipschitz)


def red_firmly_nonexpansive(mu: float, L: float, tau: float, weight: float) -> float:
    r"""
    The same with a firmly nonexpansive :math:`D = \tfrac12 (I + N)`, :math:`N`
    nonexpansive. Then :math:`\lambda (I - D) = \tfrac{\lambda}{2} (I - N)`: that of
    :func:`red` with :math:`\lambda / 2` and :math:`L_D = 1`,

    .. math::

        q(\mu + \tfrac{\lambda}{2}, L + \tfrac{\lambda}{2}, \tau)
        + \tau \tfrac{\lambda}{2},

    never larger than that of :func:`red` with :math:`L_D = 1`, and below 1 for
    :math:`\mu > 0` and :math:`\tau < 2 / (L + \lambda)`. Tight.

    :param float mu: lower end of the spectrum.
    :param float L: upper end.
    :param float tau: step size.
    :param float weight: :math:`\lambda \ge 0`.
    :return: the Lipschitz constant.
    """
    return red(mu, L, tau, weight / 2, 1.0)


def de_grad(mu: float, L: float, eta: float, residual: float) -> float:
    r"""
    Of DE-GRAD, :math:`x \mapsto x - \eta (\nabla f(x) + S(x))`, with an
    :math:`\epsilon`-Lipschitz :math:`S - I`:
    :math:`q(1 + \mu, 1 + L, \eta) + \eta \epsilon`.

    For :math:`\eta < 1 / (1 + L)` this is :math:`1 - \eta (1 + \mu) + \eta \epsilon`,
    Theorem 1 of :footcite:t:`gilton2021deep`. It is :func:`red` with
    :math:`S = I - D`. Tight.

    :param float mu: lower end of the spectrum.
    :param float L: upper end.
    :param float eta: step size :math:`\eta`.
    :param float residual: :math:`\epsilon`.
    :return: the Lipschitz constant.
    """
    return red(mu, L, eta, 1.0, residual)


def half_quadratic_splitting(mu: float, tau: float, lipschitz: float) -> float:
    r"""
    Of :math:`x \mapsto D(\operatorname{prox}_{\tau f}(x))` with an
    :math:`L_D`-Lipschitz :math:`D`: :math:`L_D / (1 + \tau \mu)`, as
    :math:`\operatorname{prox}_{\tau f}` is
    :math:`(I + \tau \nabla^2 f)^{-1}` up to a constant. Tight.

    :param float mu: lower end of the spectrum, nonnegative.
    :param float tau: step size.
    :param float lipschitz: :math:`L_D`.
    :return: the Lipschitz constant.
    """
    _require_nonnegative(mu=mu, tau=tau)
    return _product(lipschitz, 1 / (1 + tau * mu))


def relaxed(rate: float, beta: float) -> float:
    r"""
    Of :math:`x \mapsto (1 - \beta) x + \beta T(x)` with a :math:`\rho`-Lipschitz
    :math:`T`: :math:`|1 - \beta| + \beta \rho`. Tight.

    :param float rate: :math:`\rho`.
    :param float beta: :math:`\beta \ge 0`.
    :return: the Lipschitz constant.
    """
    _require_nonnegative(rate=rate, beta=beta)
    if beta == 1:
        return rate
    return _upwards(abs(1 - beta) + beta * rate, 1 + beta)


def block(rates: Iterable[float]) -> float:
    r"""
    Of a block of layers: the product of theirs.

    :param Iterable rates: the Lipschitz constants of the layers, each with its own
        parameters, in one norm.
    :return: the Lipschitz constant.
    """
    value = 1.0
    for rate in rates:
        value = value if rate == 1 else _product(value, rate)
    return value


def _require_nonnegative(**values: float) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"{name} must be a nonnegative number, got {value!r}.")


def _require_ordered(mu: float, L: float) -> None:
    if not mu <= L:
        raise ValueError(f"mu must be at most L, got mu={mu!r} and L={L!r}.")


def _upwards(value: float, magnitude: float = 0.0) -> float:
    """Past the rounding of a value whose operands are at most itself or the magnitude;
    infinite where it cannot be computed."""
    if math.isnan(value):
        return math.inf
    return math.nextafter(value + _ROUNDING * (value + magnitude), math.inf)


def _product(lipschitz: float, rate: float) -> float:
    _require_nonnegative(lipschitz=lipschitz)
    return _upwards(lipschitz * rate)
