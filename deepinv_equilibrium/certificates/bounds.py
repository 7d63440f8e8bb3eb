"""Bounds of quantities, each with its direction, its kind and its source."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from enum import Enum


class Kind(str, Enum):
    r"""
    How well a number is established, the strongest kind first.

    - ``CERTIFIED``: the bound is proved. It is never on the wrong side of the true
      value.
    - ``ESTIMATED``: the number is a numerical estimate, such as the result of a power
      iteration. Probabilistic bounds are estimates; each carries its probability of
      failure and the point where it holds.
    - ``OBSERVED``: the number was measured along one run.
    """

    CERTIFIED = "certified"
    ESTIMATED = "estimated"
    OBSERVED = "observed"

    def __str__(self) -> str:
        return self.value

    @staticmethod
    def weakest(kinds: Iterable[Kind]) -> Kind:
        """Return the weakest kind: the kind of a value computed from several values."""
        order = list(Kind)
        return max(kinds, key=order.index, default=Kind.CERTIFIED)


@dataclass(frozen=True)
class Bound:
    r"""
    An upper or a lower bound of a nonnegative quantity, or a lower bound of a
    curvature, which is negative for a weakly convex function.

    An infinite upper bound and a lower bound of 0 hold for every nonnegative quantity.
    They mean that nothing is proved, and ``source`` gives the reason.

    >>> from deepinv_equilibrium.certificates import Bound, Kind
    >>> print(Bound(0.95, source="spectral norm on a 32 x 32 torus"))
    <= 0.95 (certified: spectral norm on a 32 x 32 torus)
    >>> print(Bound(0.8, Kind.ESTIMATED, "60 Lanczos steps", delta=0.01))
    <~ 0.8 (estimated with failure probability 0.01: 60 Lanczos steps)

    :param float value: the bound, in :math:`[0, \infty]`; a lower bound may be
        negative.
    :param Kind kind: certified, estimated or observed. Default: certified.
    :param str source: how the bound was obtained.
    :param bool is_lower: whether the bound is a lower bound. Default: ``False``.
    :param float delta: probability that the true value violates the bound, in
        :math:`[0, 1)`; 0 for bounds that are not probabilistic.
    :param str point: point where a local bound holds; empty for a global bound.
    :raises ValueError: if the value is NaN, an upper bound is negative, ``kind`` is
        not a kind, ``delta`` is out of range, or a certified bound has a positive
        ``delta``.
    """

    value: float
    kind: Kind = Kind.CERTIFIED
    source: str = ""
    is_lower: bool = False
    delta: float = 0.0
    point: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "kind", Kind(self.kind))
        if not (self.value >= 0 or (self.is_lower and self.value < 0)):
            raise ValueError(
                "value must be a nonnegative number, and may be negative for a lower "
                f"bound only, got {self.value!r}."
            )
        if not 0 <= self.delta < 1:
            raise ValueError(f"delta must be in [0, 1), got {self.delta!r}.")
        if self.delta and self.kind is Kind.CERTIFIED:
            raise ValueError(
                f"a bound that fails with probability delta={self.delta!r} is not "
                "certified; set kind to Kind.ESTIMATED."
            )

    @property
    def is_certified(self) -> bool:
        """Whether the bound is proved."""
        return self.kind is Kind.CERTIFIED

    @property
    def is_vacuous(self) -> bool:
        """Whether the bound holds for every nonnegative quantity: infinity, or 0 from
        below. A lower bound of minus infinity is vacuous, too."""
        return self.value in ((0.0, -math.inf) if self.is_lower else (math.inf,))

    @property
    def relation(self) -> str:
        """``<=`` or ``>=`` for a certified bound, ``<~`` or ``>~`` for another one."""
        return (">" if self.is_lower else "<") + ("=" if self.is_certified else "~")

    @property
    def basis(self) -> str:
        """The kind in words, with the failure probability and the point."""
        text = str(self.kind)
        if self.delta:
            text += f" with failure probability {self.delta:g}"
        return text + (f" at {self.point}" if self.point else "")

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        if self.value == math.inf and not self.is_lower:
            return f"no bound ({self.source or 'none is known'})"
        source = f": {self.source}" if self.source else ""
        return f"{self.relation} {self._digits()} ({self.basis}{source})"

    def _digits(self) -> str:
        """Return the value in six digits, rounded outward unless a six-digit number is
        within 1e-9: :func:`outward` has moved such a value past its own rounding."""
        text = f"{self.value:.6g}"
        nearest = float(text)
        holds = nearest <= self.value if self.is_lower else nearest >= self.value
        if holds or abs(nearest - self.value) <= 1e-9 * abs(self.value):
            return text
        return self.rounded(6)

    def rounded(self, digits: int) -> str:
        """Return the value in so many significant digits, rounded outward."""
        rounding = ROUND_FLOOR if self.is_lower else ROUND_CEILING
        context = Context(prec=digits, rounding=rounding)
        return f"{float(context.create_decimal_from_float(self.value)):.{digits}g}"


@dataclass(frozen=True)
class Interval:
    r"""
    A lower and an upper bound of one quantity, such as the spectrum of
    :math:`A^\top A`.

    :param Bound lower: the lower bound.
    :param Bound upper: the upper bound.
    :raises ValueError: if ``lower`` is not a lower bound, ``upper`` is not an upper
        bound, or two certified bounds contradict each other.
    """

    lower: Bound
    upper: Bound

    def __post_init__(self) -> None:
        if not self.lower.is_lower or self.upper.is_lower:
            raise ValueError(
                "an Interval takes a lower and an upper bound, in this order, got "
                f"{self.lower} and {self.upper}."
            )
        if self.kind is Kind.CERTIFIED and self.lower.value > self.upper.value:
            raise ValueError(
                f"the lower bound {self.lower.value!r} exceeds the upper bound "
                f"{self.upper.value!r}."
            )

    @property
    def kind(self) -> Kind:
        """The weaker kind of the two bounds."""
        return Kind.weakest((self.lower.kind, self.upper.kind))

    def of_one_kind(self) -> Interval:
        """Return the interval with both ends of :attr:`kind`. A result that uses one
        end relies on the assumptions of both: even the lower end 0 of the spectrum of
        :math:`A^\\top A` assumes that the operator is linear and has this adjoint."""
        ends = (self.lower, self.upper)
        return Interval(
            derived(self.lower.value, ends, self.lower.source, is_lower=True),
            derived(self.upper.value, ends, self.upper.source),
        )

    def __str__(self) -> str:
        return f"[{self.lower}, {self.upper}]"


def derived(
    value: float, terms: Iterable[Bound], source: str, *, is_lower: bool = False
) -> Bound:
    r"""
    Return a bound that was computed from other bounds. It has the weakest of their
    kinds, and the sum of their probabilities of failure.

    :param float value: the computed value. NaN counts as a vacuous bound, which is
        minus infinity for a lower bound that was computed from a negative one.
    :param Iterable terms: the bounds that the value was computed from.
    :param str source: how the value was computed.
    :param bool is_lower: whether the result is a lower bound. Default: ``False``.
    :return: the bound.
    """
    terms = list(terms)
    if math.isnan(value):
        signed = any(term.value < 0 for term in terms)
        value = (-math.inf if signed else 0.0) if is_lower else math.inf
    return Bound(
        value,
        Kind.weakest(term.kind for term in terms),
        source,
        is_lower,
        min(sum(term.delta for term in terms), 1 - 1e-16),
        "; ".join(dict.fromkeys(term.point for term in terms if term.point)),
    )


def unproved(reason: str) -> Bound:
    """Return an infinite upper bound whose source is the reason."""
    return Bound(math.inf, source=reason)


def outward(value: float, *, is_lower: bool = False, relative: float = 1e-12) -> float:
    r"""
    Move a value that was computed in float64 to the safe side of its rounding error.

    :param float value: a value, nonnegative unless it is a lower bound.
    :param bool is_lower: whether the value is a lower bound. Default: ``False``.
    :param float relative: bound of the relative rounding error. Default: 1e-12.
    :return: the value, larger by ``relative`` times its size, or smaller for a lower
        bound.
    """
    shrinks = is_lower and value >= 0
    return value * (1 - relative) if shrinks else value * (1 + relative)
