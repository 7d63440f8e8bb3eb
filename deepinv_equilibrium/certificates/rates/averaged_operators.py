r"""
Averagedness constants of iterations: convergence without a rate.

A map :math:`T` is :math:`\alpha`-averaged, :math:`0 \le \alpha < 1`, if
:math:`T = (1 - \alpha) I + \alpha N` with a nonexpansive :math:`N`. For such a map and
each of its fixed points :math:`x^\star`,

.. math::

    \|T(x) - x^\star\|^2 \le \|x - x^\star\|^2
    - \frac{1 - \alpha}{\alpha} \|T(x) - x\|^2.

If :math:`T` has a fixed point, the iterates :math:`x_{k+1} = T(x_k)` therefore converge
to one (Krasnosel'skii and Mann, Theorem 5.15 of :footcite:t:`bauschke2017convex`), and
their residuals, which do not grow, satisfy :math:`\|T(x_k) - x_k\| \le
\sqrt{\alpha / (1 - \alpha)} \, \|x_0 - x^\star\| / \sqrt{k + 1}`. The fixed point need
not be unique.

Each function returns an upper bound of the constant :math:`\alpha`, with the rounding
of its arithmetic; 1 or more means that only nonexpansiveness or nothing is proved.
"""

from __future__ import annotations

import math

from .forward_backward_rates import require_nonnegative, rounded_up


def averaged_gradient_step(L: float, tau: float) -> float:
    r"""
    Return the averagedness constant :math:`\tau L / 2` of
    :math:`x \mapsto x - \tau G(x)` for a :math:`1/L`-cocoercive :math:`G`, such as the
    gradient of a convex function with an :math:`L`-Lipschitz gradient. Sums of
    :math:`1/L_i`-cocoercive maps are :math:`1/\sum_i L_i`-cocoercive. Tight.

    If :math:`D` is :math:`\alpha`-averaged, :math:`\lambda (I - D)` is
    :math:`1/(2 \alpha \lambda)`-cocoercive.

    :param float L: :math:`L`.
    :param float tau: step size :math:`\tau`.
    :return: :math:`\alpha`.
    """
    require_nonnegative(L=L, tau=tau)
    return rounded_up(tau * L / 2)


def averaged_composition(first: float, second: float) -> float:
    r"""
    Return the averagedness constant of the composition of two averaged maps, in either
    order, by Proposition 4.44 of :footcite:t:`bauschke2017convex`:

    .. math::

        \frac{\alpha_1 + \alpha_2 - 2 \alpha_1 \alpha_2}{1 - \alpha_1 \alpha_2}.

    :param float first: :math:`\alpha_1 \ge 0`.
    :param float second: :math:`\alpha_2 \ge 0`.
    :return: :math:`\alpha`; 1 if one of the maps is only nonexpansive, infinite if one
        constant exceeds 1.
    """
    require_nonnegative(first=first, second=second)
    if max(first, second) > 1:
        return math.inf
    if max(first, second) == 1:
        return 1.0
    # 1 - (1 - a)(1 - b) / (1 - ab), which exceeds neither 1 nor its own rounding.
    value = 1 - (1 - first) * (1 - second) / (1 - first * second)
    return min(rounded_up(value, 2.0), 1.0)


def averaged_relaxation(alpha: float, beta: float) -> float:
    r"""
    Return the averagedness constant :math:`\alpha \beta` of
    :math:`x \mapsto (1 - \beta) x + \beta T(x)` for an :math:`\alpha`-averaged
    :math:`T`. Tight.

    :param float alpha: :math:`\alpha \ge 0`; 1 for a nonexpansive :math:`T`.
    :param float beta: relaxation :math:`\beta \ge 0`.
    :return: the constant.
    """
    require_nonnegative(alpha=alpha, beta=beta)
    return alpha if beta == 1 else rounded_up(alpha * beta)
