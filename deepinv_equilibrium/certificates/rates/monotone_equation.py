r"""
Bounds of solutions of :math:`A^*(Ax - y) + \alpha G(x) = 0` with a monotone :math:`G`.

For two solutions, or a solution and the truth, the difference :math:`d` of the
equations is multiplied with that of the images. With :math:`\langle G(x) - G(x'), x -
x' \rangle \ge \kappa \|x - x'\|^2` and :math:`\mu I \preceq A^* A \preceq L I` this
gives bounds that hold for every such :math:`A` and :math:`G`, whatever else they are.
"""

from __future__ import annotations

import math

from ..bounds import Bound, Interval, derived, outward, unproved


def monotone_stability(spectrum: Interval, alpha: float, kappa: Bound) -> Bound:
    r"""
    Lipschitz constant of the solution in the measurement,

    .. math::

        \|x_1 - x_2\| \le \sup_{\mu \le s \le L} \frac{\sqrt s}{s + \alpha \kappa}
        \|y_1 - y_2\| \le \frac{\|y_1 - y_2\|}{2 \sqrt{\alpha \kappa}},

    as :math:`\|A d\|^2 + \alpha \kappa \|d\|^2 \le \langle y_1 - y_2, A d \rangle` for
    :math:`d = x_1 - x_2` and :math:`\|A d\|^2 = s \|d\|^2` with an :math:`s` in
    :math:`[\mu, L]`. The second is the bound without :math:`\mu` and :math:`L`.

    :param Interval spectrum: :math:`[\mu, L]`, of :math:`A^* A`.
    :param float alpha: :math:`\alpha > 0`.
    :param Bound kappa: :math:`\kappa`, from below.
    :return: (Bound) the Lipschitz constant; infinite for :math:`\kappa = 0`, as far as
        :math:`\mu = 0`.
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
    Bound of the distance of the solution :math:`x` for :math:`y^\delta`,
    :math:`\|y^\delta - A x^\dagger\| \le \delta`, from an :math:`x^\dagger` with the
    source condition :math:`G(x^\dagger) = A^* w`,

    .. math::

        \langle G(x) - G(x^\dagger), x - x^\dagger \rangle \le
        \frac{(\delta + \alpha \|w\|)^2}{4 \alpha},

    the symmetric Bregman distance where :math:`G` is the gradient of a convex function:
    of the order :math:`\delta` for :math:`\alpha` proportional to :math:`\delta`. It
    is proved for every :math:`A` and :math:`G`
    :footcite:p:`obmann2023convergence`: :math:`\|A d\|^2 + \alpha \langle G(x) -
    G(x^\dagger), d \rangle = \langle y^\delta - A x^\dagger - \alpha w, A d \rangle`
    for :math:`d = x - x^\dagger`.

    :param float noise_level: :math:`\delta \ge 0`, of the whole measurement.
    :param float source_norm: :math:`\|w\|`.
    :param float alpha: :math:`\alpha > 0`.
    :return: (Bound) the bound, certified.
    :raises ValueError: if a number is out of its range.
    """
    _require(noise_level=noise_level, source_norm=source_norm)
    _require_positive(alpha=alpha)
    value = (noise_level + alpha * source_norm) ** 2 / (4 * alpha)
    return Bound(outward(value), source="(delta + alpha ||w||)^2 / (4 alpha)")


def source_condition_error(
    noise_level: float, source_norm: float, alpha: float, kappa: Bound
) -> Bound:
    r"""
    Bound of the error under the same condition,

    .. math::

        \|x - x^\dagger\| \le
        \frac{\delta + \alpha \|w\|}{2 \sqrt{\alpha \kappa}},

    of the order :math:`\sqrt\delta` for :math:`\alpha` proportional to :math:`\delta`.

    :param float noise_level: :math:`\delta \ge 0`, of the whole measurement.
    :param float source_norm: :math:`\|w\|`.
    :param float alpha: :math:`\alpha > 0`.
    :param Bound kappa: :math:`\kappa`, from below.
    :return: (Bound) the bound; infinite for :math:`\kappa = 0`.
    :raises ValueError: if a number is out of its range.
    """
    distance = source_condition_distance(noise_level, source_norm, alpha)
    if kappa.value == 0:
        return unproved("G is not proved to be strongly monotone (kappa = 0)")
    value = math.sqrt(distance.value / kappa.value)
    source = "(delta + alpha ||w||) / (2 sqrt(alpha kappa))"
    return derived(outward(value), (distance, kappa), source)


def parameter_choice(noise_level: float, source_norm: float = 1.0) -> float:
    r"""
    The :math:`\alpha(\delta) = \delta / \|w\|` for which
    :func:`source_condition_distance` is the least, :math:`\delta \|w\|`.

    It goes to 0 with :math:`\delta`, and so does :math:`\delta^2 / \alpha`: what the
    convergence theorem asks for, whatever number stands for :math:`\|w\|`, which is
    rarely known. (:math:`\alpha = \delta^2` does not: the bound stays above 1/4.)

    :param float noise_level: :math:`\delta > 0`, of the whole measurement,
        :math:`\sigma \sqrt m` for :math:`m` numbers with white noise of standard
        deviation :math:`\sigma`.
    :param float source_norm: :math:`\|w\| > 0`, or a guess of it. Default: 1.
    :return: (float) :math:`\alpha`.
    :raises ValueError: if a number is not positive.
    """
    _require_positive(noise_level=noise_level, source_norm=source_norm)
    return noise_level / source_norm


def _require(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be in [0, inf), got {value!r}.")


def _require_positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be in (0, inf), got {value!r}.")
