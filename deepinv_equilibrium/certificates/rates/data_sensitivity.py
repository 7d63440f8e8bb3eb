"""Lipschitz constants of proximal operators and fixed points in the measurement."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..bounds import outward


def prox_sensitivity(
    squared_norm: float, tau: float, precision: float = 1.0, kappa: float = 0.0
) -> float:
    r"""
    Return the Lipschitz constant in :math:`y` of
    :math:`\operatorname{prox}_{\tau f}(z)` for
    :math:`f(x) = \tfrac{1}{2 \sigma^2} \|Ax - y\|^2 + \tfrac{\kappa}{2} \|x\|^2`,

    .. math::

        \frac{\tau}{\sigma^2} \sup_{0 \le s \le \|A\|^2}
        \frac{\sqrt{s}}{1 + \tau \kappa + \tau s / \sigma^2}.

    The supremum is attained at :math:`s = \sigma^2 (1 + \tau \kappa) / \tau`, or at
    :math:`\|A\|^2` if that is smaller.

    :param float squared_norm: upper bound of :math:`\|A\|^2`.
    :param float tau: step size :math:`\tau \ge 0`.
    :param float precision: :math:`1 / \sigma^2`. Default: 1.
    :param float kappa: :math:`\kappa \ge 0`. Default: 0.
    :return: the Lipschitz constant.
    """
    a, b = 1 + tau * kappa, tau * precision
    if b * squared_norm <= a:
        value = b * math.sqrt(squared_norm) / (a + b * squared_norm)
    else:
        value = math.sqrt(b / a) / 2
    return outward(value)


def fixed_point_sensitivity(
    rates: Sequence[float], sensitivities: Sequence[float]
) -> float:
    r"""
    Return the Lipschitz constant in :math:`y` of the fixed point of a block of layers
    :math:`F_K(\cdot, y) \circ \dots \circ F_1(\cdot, y)`, where :math:`F_k` is
    :math:`\rho_k`-Lipschitz in its state and :math:`c_k`-Lipschitz in :math:`y`:

    .. math::

        \frac{\sum_k c_k \prod_{j > k} \rho_j}{1 - \prod_k \rho_k} .

    :param Sequence rates: the :math:`\rho_k`.
    :param Sequence sensitivities: the :math:`c_k`.
    :return: the Lipschitz constant; infinite unless the product of the rates is below
        1.
    """
    moved, product = 0.0, 1.0
    for rate, sensitivity in zip(rates, sensitivities, strict=True):
        moved = outward(rate * moved + sensitivity)
        product = outward(rate * product)
    return outward(moved / (1 - product)) if product < 1 else math.inf
