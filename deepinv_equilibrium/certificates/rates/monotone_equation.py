r"""
Bounds of the solutions of :math:`A^*(Ax - y) + \alpha G(x) = 0` with a monotone
:math:`G`.

The bounds hold for every linear :math:`A` with
:math:`\mu I \preceq A^* A \preceq L I` and every :math:`G` with
:math:`\langle G(x) - G(x'), x - x' \rangle \ge \kappa \|x - x'\|^2`. The proofs take
the difference of the equations of two solutions, or of a solution and the true image,
and its inner product with the difference :math:`d` of the images.
"""

from __future__ import annotations

import math

from ...fixed_points.argument_checks import require_in_range
from ..bounds import Bound, Interval, derived, outward, unproved


def monotone_stability(spectrum: Interval, alpha: float, kappa: Bound) -> Bound:
    r"""
    Return the Lipschitz constant of the solution in the measurement,

    .. math::

        \|x_1 - x_2\| \le \sup_{\mu \le s \le L} \frac{\sqrt s}{s + \alpha \kappa}
        \|y_1 - y_2\| \le \frac{\|y_1 - y_2\|}{2 \sqrt{\alpha \kappa}}.

    It follows from :math:`\|A d\|^2 + \alpha \kappa \|d\|^2 \le \langle y_1 - y_2, A d
    \rangle` for :math:`d = x_1 - x_2`, where :math:`\|A d\|^2 = s \|d\|^2` with an
    :math:`s` in :math:`[\mu, L]`. The second bound does not use :math:`\mu` and
    :math:`L`.

    :param Interval spectrum: :math:`[\mu, L]`, the spectrum of :math:`A^* A`.
    :param float alpha: :math:`\alpha > 0`.
    :param Bound kappa: a lower bound of :math:`\kappa`.
    :return: (Bound) the Lipschitz constant, certified if possible; infinite for
        :math:`\kappa = \mu = 0`.
    """
    lower, upper = spectrum.lower.value, spectrum.upper.value
    shift = alpha * kappa.value * (1 - 1e-12)
    candidates = []
    if shift > 0:
        value, source = 1 / (2 * math.sqrt(shift)), "1 / (2 sqrt(alpha kappa))"
        candidates.append(derived(outward(value), (kappa,), source))
    if lower > shift:
        value = math.sqrt(lower) / (lower + shift)
        source = "sqrt(mu) / (mu + alpha kappa)"
        candidates.append(derived(outward(value), (kappa, spectrum.lower), source))
    if upper < shift:
        value = math.sqrt(upper) / (upper + shift)
        source = "sqrt(L) / (L + alpha kappa)"
        candidates.append(derived(outward(value), (kappa, spectrum.upper), source))
    proved = [bound for bound in candidates if bound.is_certified]
    if not candidates:
        return unproved("G is not proved to be strongly monotone (kappa = 0)")
    return min(proved or candidates, key=float)


def source_condition_distance(
    noise_level: float, source_norm: float, alpha: float
) -> Bound:
    r"""
    Bound a distance between the solution :math:`x` for a noisy measurement
    :math:`y^\delta` and the true image :math:`x^\dagger`. If
    :math:`\|y^\delta - A x^\dagger\| \le \delta` and :math:`x^\dagger` satisfies the
    source condition :math:`G(x^\dagger) = A^* w`, then

    .. math::

        \langle G(x) - G(x^\dagger), x - x^\dagger \rangle \le
        \frac{(\delta + \alpha \|w\|)^2}{4 \alpha}.

    The left side is the symmetric Bregman distance if :math:`G` is the gradient of a
    convex function. The bound is of the order :math:`\delta` for :math:`\alpha`
    proportional to :math:`\delta`. It holds for every :math:`A` and :math:`G`
    :footcite:p:`obmann2023convergence`, because
    :math:`\|A d\|^2 + \alpha \langle G(x) - G(x^\dagger), d \rangle = \langle y^\delta
    - A x^\dagger - \alpha w, A d \rangle` for :math:`d = x - x^\dagger`.

    :param float noise_level: :math:`\delta \ge 0`, a bound of the norm of the noise of
        the whole measurement.
    :param float source_norm: :math:`\|w\| \ge 0`.
    :param float alpha: :math:`\alpha > 0`.
    :return: (Bound) the certified bound.
    :raises TypeError: if an argument is not a number.
    :raises ValueError: if an argument is out of its range.
    """
    require_in_range("noise_level", noise_level, zero=True)
    require_in_range("source_norm", source_norm, zero=True)
    require_in_range("alpha", alpha)
    value = (noise_level + alpha * source_norm) ** 2 / (4 * alpha)
    return Bound(outward(value), source="(delta + alpha ||w||)^2 / (4 alpha)")


def source_condition_error(
    noise_level: float, source_norm: float, alpha: float, kappa: Bound
) -> Bound:
    r"""
    Bound the error of the solution under the assumptions of
    :func:`source_condition_distance`,

    .. math::

        \|x - x^\dagger\| \le
        \frac{\delta + \alpha \|w\|}{2 \sqrt{\alpha \kappa}}.

    The bound is of the order :math:`\sqrt\delta` for :math:`\alpha` proportional to
    :math:`\delta`.

    :param float noise_level: :math:`\delta \ge 0`, a bound of the norm of the noise of
        the whole measurement.
    :param float source_norm: :math:`\|w\| \ge 0`.
    :param float alpha: :math:`\alpha > 0`.
    :param Bound kappa: a lower bound of :math:`\kappa`.
    :return: (Bound) the bound; infinite for :math:`\kappa = 0`.
    :raises TypeError: if an argument is not a number.
    :raises ValueError: if an argument is out of its range.
    """
    distance = source_condition_distance(noise_level, source_norm, alpha)
    if kappa.value == 0:
        return unproved("G is not proved to be strongly monotone (kappa = 0)")
    value = math.sqrt(distance.value / kappa.value)
    source = "(delta + alpha ||w||) / (2 sqrt(alpha kappa))"
    return derived(outward(value), (distance, kappa), source)


def parameter_choice(noise_level: float, source_norm: float = 1.0) -> float:
    r"""
    Return :math:`\alpha(\delta) = \delta / \|w\|`, which minimises the bound of
    :func:`source_condition_distance`. The minimum is :math:`\delta \|w\|`.

    Both :math:`\alpha` and :math:`\delta^2 / \alpha` tend to 0 with :math:`\delta`, as
    the convergence theorem requires. This holds for any positive number in the place of
    :math:`\|w\|`, which is rarely known. The choice :math:`\alpha = \delta^2` does not
    satisfy the requirement: its bound stays above 1/4.

    :param float noise_level: :math:`\delta > 0`, the norm of the noise of the whole
        measurement: :math:`\sigma \sqrt m` for white noise of standard deviation
        :math:`\sigma` in :math:`m` numbers.
    :param float source_norm: :math:`\|w\| > 0`, or a guess of it. Default: 1.
    :return: (float) :math:`\alpha`.
    :raises TypeError: if an argument is not a number.
    :raises ValueError: if an argument is not positive.
    """
    require_in_range("noise_level", noise_level)
    require_in_range("source_norm", source_norm)
    return noise_level / source_norm
