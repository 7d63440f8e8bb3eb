r"""
Lipschitz constants of Douglas-Rachford splitting and of ADMM.

With the reflections :math:`C = 2 \operatorname{prox}_{\tau f} - I` and
:math:`N = 2 D - I`, an iteration of Douglas-Rachford splitting on its state :math:`z`
is

.. math::

    T_\beta = (1 - \tfrac{\beta}{2}) I + \tfrac{\beta}{2} N C.

An iteration of ADMM with :math:`\beta = 1` is :math:`\tfrac12 I + \tfrac12 C N` on its
variable :math:`v = x + z`; after each iteration :math:`x = D(v)`. Since :math:`C` is
affine, each bound below holds for both orders. The function :math:`f` is quadratic with
:math:`\mu I \preceq \nabla^2 f \preceq L I`, :math:`\tau \mu > -1`, and
:math:`L = \infty` is allowed. If a denoiser has several of the properties, use the
smallest bound.
"""

from __future__ import annotations

from .forward_backward_rates import (
    require_nonnegative,
    require_ordered,
    require_prox,
    rounded_up,
)


def reflection(mu: float, L: float, tau: float) -> float:
    r"""
    Return the Lipschitz constant of the reflection
    :math:`C = 2 \operatorname{prox}_{\tau f} - I`, whose eigenvalues
    :math:`(1 - \tau s) / (1 + \tau s)` decrease in :math:`s \in [\mu, L]`:

    .. math::

        c = \max\Bigl(\frac{1 - \tau \mu}{1 + \tau \mu},
        \frac{\tau L - 1}{\tau L + 1}\Bigr).

    It is smallest at :math:`\tau = 1 / \sqrt{\mu L}`. Tight.

    :param float mu: lower end :math:`\mu` of the spectrum of :math:`\nabla^2 f`.
    :param float L: upper end :math:`L`.
    :param float tau: step size :math:`\tau`.
    :return: the Lipschitz constant.
    """
    require_prox(mu, tau)
    require_ordered(mu, L)
    return rounded_up(max(2 * _shrunk(tau, mu) - 1, 1 - 2 * _shrunk(tau, L)), 1.0)


def douglas_rachford(
    mu: float, L: float, tau: float, lipschitz: float, beta: float = 1.0
) -> float:
    r"""
    Return the Lipschitz constant of an iteration for an :math:`L_D`-Lipschitz
    :math:`D`. Since
    :math:`T_\beta = (I - \beta \operatorname{prox}_{\tau f}) + \beta D C`, it is

    .. math::

        \max_{s \in \{\mu, L\}} \Bigl|1 - \frac{\beta}{1 + \tau s}\Bigr|
        + \beta L_D c.

    :param float mu: lower end :math:`\mu` of the spectrum of :math:`\nabla^2 f`.
    :param float L: upper end :math:`L`.
    :param float tau: step size :math:`\tau`.
    :param float lipschitz: :math:`L_D`.
    :param float beta: relaxation :math:`\beta \ge 0`, 1 for ADMM. Default: 1.
    :return: the Lipschitz constant.
    """
    require_nonnegative(lipschitz=lipschitz, beta=beta)
    linear = max(abs(1 - beta * _shrunk(tau, s)) for s in (mu, L))
    value = linear + beta * lipschitz * reflection(mu, L, tau)
    return rounded_up(value, 1 + beta)


def douglas_rachford_reflected(
    mu: float, L: float, tau: float, reflected: float = 1.0, beta: float = 1.0
) -> float:
    r"""
    Return the Lipschitz constant of an iteration for an :math:`L_N`-Lipschitz
    reflection :math:`N = 2 D - I`,

    .. math::

        |1 - \tfrac{\beta}{2}| + \tfrac{\beta}{2} L_N c.

    :math:`N` is nonexpansive, with :math:`L_N = 1`, if and only if :math:`D` is firmly
    nonexpansive. For :math:`\beta = L_N = 1` the constant is
    :math:`\tfrac12 + \tfrac12 c`, which is below 1 if :math:`\mu > 0` and
    :math:`L < \infty`. Tight.

    :param float mu: lower end :math:`\mu` of the spectrum of :math:`\nabla^2 f`.
    :param float L: upper end :math:`L`.
    :param float tau: step size :math:`\tau`.
    :param float reflected: :math:`L_N`. Default: 1.
    :param float beta: relaxation :math:`\beta \ge 0`, 1 for ADMM. Default: 1.
    :return: the Lipschitz constant.
    """
    require_nonnegative(reflected=reflected, beta=beta)
    value = abs(1 - beta / 2) + beta / 2 * reflected * reflection(mu, L, tau)
    return rounded_up(value, 1 + beta)


def douglas_rachford_residual(
    mu: float, L: float, tau: float, residual: float, beta: float = 1.0
) -> float:
    r"""
    Return the Lipschitz constant of an iteration for an :math:`\epsilon`-Lipschitz
    :math:`D - I`, the smaller of two bounds.

    The first bound is the triangle inequality for
    :math:`T_\beta = (1 - \tfrac{\beta}{2}) I + \tfrac{\beta}{2} C
    + \beta (D - I) C`,

    .. math::

        \max_{s \in \{\mu, L\}} \Bigl|1 - \frac{\beta \tau s}{1 + \tau s}\Bigr|
        + \beta \epsilon c.

    The second bound uses that :math:`-N C` is a composition of averaged maps:
    :math:`-N C = (1 + 2 \epsilon) ((1 - \theta) I + \theta M)` for a nonexpansive
    :math:`M` and :math:`\theta = (1 + 2 \epsilon \tau \mu) /
    (1 + \tau \mu + 2 \epsilon \tau \mu)`. It is

    .. math::

        \Bigl|1 - \tfrac{\beta}{2} - \tfrac{\beta}{2} (1 + 2 \epsilon)
        (1 - \theta)\Bigr| + \tfrac{\beta}{2} (1 + 2 \epsilon) \theta.

    For :math:`\beta = 1` it is Theorem 2 of :footcite:t:`ryu2019plug`,
    :math:`(1 + \epsilon + \epsilon \tau \mu + 2 \epsilon^2 \tau \mu) /
    (1 + \tau \mu + 2 \epsilon \tau \mu)`.

    :param float mu: lower end :math:`\mu` of the spectrum of :math:`\nabla^2 f`.
    :param float L: upper end :math:`L`.
    :param float tau: step size :math:`\tau`.
    :param float residual: :math:`\epsilon`.
    :param float beta: relaxation :math:`\beta \ge 0`, 1 for ADMM. Default: 1.
    :return: the Lipschitz constant.
    """
    require_nonnegative(residual=residual, beta=beta)
    linear = max(abs(1 - beta * (1 - _shrunk(tau, s))) for s in (mu, L))
    triangle = linear + beta * residual * reflection(mu, L, tau)
    scale, t = 1 + 2 * residual, tau * mu
    theta = (1 + 2 * residual * t) / (1 + t + 2 * residual * t)
    averaged = abs(1 - beta / 2 - beta / 2 * scale * (1 - theta))
    averaged += beta / 2 * scale * theta
    magnitude = (1 + beta) * scale
    return min(rounded_up(triangle, magnitude), rounded_up(averaged, magnitude))


def _shrunk(tau: float, s: float) -> float:
    """Return the eigenvalue 1 / (1 + tau s) of the proximal operator; s may be
    infinite."""
    return 1.0 if tau == 0 else 1 / (1 + tau * s)
