r"""
Lipschitz constants of the proximal operator of a smooth, possibly weakly convex
function.

In this module :math:`g` is differentiable with a Lipschitz gradient and
:math:`m I \preceq \nabla^2 g \preceq L I`, where :math:`m = -\rho` is negative for a
:math:`\rho`-weakly convex function, and :math:`w \ge 0` is a weight with
:math:`w m > -1`. Then
:math:`\tfrac12 \|z - x\|^2 + w g(z)` is strongly convex in :math:`z`, and
:math:`\operatorname{prox}_{w g} = (I + w \nabla g)^{-1}` is a function. Its Jacobian is
symmetric, with eigenvalues

.. math::

    \frac{1}{1 + w s}, \qquad m \le s \le L,

which decrease in :math:`s`. Each constant below is the largest modulus of an eigenvalue
and is attained by a quadratic :math:`g`.
"""

from __future__ import annotations

import math

from .forward_backward_rates import require_nonnegative, require_ordered, rounded_up


def prox_lipschitz(m: float, weight: float) -> float:
    r"""
    Return the Lipschitz constant :math:`1 / (1 + w m)` of
    :math:`\operatorname{prox}_{w g}`. Tight.

    :param float m: lower end :math:`m` of the spectrum of :math:`\nabla^2 g`; negative
        for a weakly convex function.
    :param float weight: :math:`w`.
    :return: the Lipschitz constant; infinite unless :math:`w m > -1` is proved. It is
        at most 1 for a convex function.
    """
    require_nonnegative(weight=weight)
    if weight == 0 or m == 0:
        return 1.0
    value = rounded_up(_largest_eigenvalue(m, weight))
    return min(value, 1.0) if m >= 0 else value


def prox_reflected(m: float, L: float, weight: float) -> float:
    r"""
    Return the Lipschitz constant of the reflection
    :math:`2 \operatorname{prox}_{w g} - I`,

    .. math::

        \max\Bigl(\frac{1 - w m}{1 + w m}, \frac{w L - 1}{w L + 1}\Bigr).

    It is at most 1 for a convex function, whose proximal operator is firmly
    nonexpansive. Tight.

    :param float m: lower end :math:`m` of the spectrum of :math:`\nabla^2 g`.
    :param float L: upper end :math:`L`.
    :param float weight: :math:`w`.
    :return: the Lipschitz constant; infinite unless :math:`w m > -1` is proved.
    """
    require_nonnegative(weight=weight)
    require_ordered(m, L)
    if weight == 0:
        return 1.0
    largest = _largest_eigenvalue(m, weight)
    value = max(
        rounded_up(2 * largest - 1, 2 * largest),
        rounded_up(1 - 2 / (1 + weight * max(L, 0.0)), 1.0),
    )
    return min(value, 1.0) if m >= 0 else value


def prox_residual(m: float, L: float, weight: float) -> float:
    r"""
    Return the Lipschitz constant of :math:`\operatorname{prox}_{w g} - I`,

    .. math::

        \max\Bigl(\frac{w L}{1 + w L}, \frac{-w m}{1 + w m}\Bigr).

    Tight.

    :param float m: lower end :math:`m` of the spectrum of :math:`\nabla^2 g`.
    :param float L: upper end :math:`L`.
    :param float weight: :math:`w`.
    :return: the Lipschitz constant; infinite unless :math:`w m > -1` is proved.
    """
    require_nonnegative(weight=weight)
    require_ordered(m, L)
    if weight == 0:
        return 0.0
    strength = weight * max(L, 0.0)
    shrinking = strength / (1 + strength) if strength < math.inf else 1.0
    stretching = 0.0
    if m < 0:
        # -w m / (1 + w m) is the largest eigenvalue minus 1, without its cancellation.
        stretching = rounded_up(-weight * m * _largest_eigenvalue(m, weight))
    return max(min(rounded_up(shrinking), 1.0), stretching)


def _largest_eigenvalue(m: float, weight: float) -> float:
    """Return 1 / (1 + w m), with a denominator that is rounded down; infinite if the
    denominator is not proved to be positive."""
    product = weight * m
    denominator = 1 + product - 2.0**-51 * (1 + abs(product))
    return 1 / denominator if denominator > 0 else math.inf
