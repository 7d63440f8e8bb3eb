"""A number, and what is known of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from enum import Enum


class Kind(str, Enum):
    r"""
    What a number rests on, the strongest first.

    - ``CERTIFIED``: proved; never on the wrong side of the truth.
    - ``ESTIMATED``: a numerical estimate, such as a power iteration; a probabilistic
      bound is one too, with its probability of failure and the point it holds at.
    - ``OBSERVED``: measured along one run.
    """

    CERTIFIED = "certified"
    ESTIMATED = "estimated"
    OBSERVED = "observed"

    def __str__(self) -> str:
        return self.value

    @staticmethod
    def weakest(kinds: Iterable[Kind]) -> Kind:
        """The kind of what is computed from several: the weakest of theirs."""
        order = list(Kind)
        return max(kinds, key=order.index, default=Kind.CERTIFIED)


@dataclass(frozen=True)
class Bound:
    r"""
    An upper bound of a nonnegative quantity, or a lower one, and what it rests on.

    An infinite upper bound (a lower one of 0) is always true: it says that nothing is
    proved, and ``source`` says why.

    >>> from deepinv_equilibrium.certificates import Bound, Kind
    >>> print(Bound(0.95, source="spectral norm on a 32 x 32 torus"))
    <= 0.95 (certified: spectral norm on a 32 x 32 torus)
    >>> print(Bound(0.8, Kind.ESTIMATED, "60 Lanczos steps", delta=0.01))
    <~ 0.8 (estimated with failure probability 0.01: 60 Lanczos steps)

    :param float value: the bound, not NaN.
    :param Kind kind: certified, estimated or observed.
    :param str source: how it was obtained.
    :param bool is_lower: whether it bounds from below.
    :param float delta: the probability that a probabilistic bound is on the wrong side,
        0 where none is known or needed.
    :param str point: where a local bound holds; empty where it holds everywhere.
    :raises ValueError: if the value is NaN or negative, or a certified bound has a
        probability of failure.
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
        if not self.value >= 0:
            raise ValueError(f"a bound must be nonnegative and no NaN: {self.value!r}.")
        if not 0 <= self.delta < 1:
            raise ValueError(f"delta must be in [0, 1), got {self.delta!r}.")
        if self.delta and self.kind is Kind.CERTIFIED:
            raise ValueError(
                f"a bound that fails with probability {self.delta} is not certified."
            )

    @property
    def is_certified(self) -> bool:
        """Whether it is proved."""
        return self.kind is Kind.CERTIFIED

    @property
    def is_vacuous(self) -> bool:
        """Whether it says nothing: infinite, or 0 from below."""
        return self.value == (0.0 if self.is_lower else math.inf)

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        if self.value == math.inf and not self.is_lower:
            return f"no bound ({self.source or 'none is known'})"
        relation = ">" if self.is_lower else "<"
        relation += "=" if self.is_certified else "~"
        note = str(self.kind)
        if self.delta:
            note += f" with failure probability {self.delta:g}"
        if self.point:
            note += f" at {self.point}"
        if self.source:
            note += f": {self.source}"
        return f"{relation} {_shown(self.value, self.is_lower)} ({note})"


def _shown(value: float, is_lower: bool) -> str:
    """Six digits, and not on the wrong side: rounded outward, but for what is within
    1e-9 of a shorter number, as bounds that were moved past their own rounding are."""
    text = f"{value:.6g}"
    nearest = float(text)
    right = nearest <= value if is_lower else nearest >= value
    if right or abs(nearest - value) <= 1e-9 * abs(value):
        return text
    rounding = ROUND_FLOOR if is_lower else ROUND_CEILING
    context = Context(prec=6, rounding=rounding)
    return f"{float(context.create_decimal_from_float(value)):.6g}"


@dataclass(frozen=True)
class Interval:
    r"""
    A lower and an upper bound of one quantity, e.g. of the spectrum of
    :math:`A^\top A`.

    :param Bound lower: from below.
    :param Bound upper: from above.
    :raises ValueError: if a bound is of the wrong side, or they are certified and
        contradict each other.
    """

    lower: Bound
    upper: Bound

    def __post_init__(self) -> None:
        if not self.lower.is_lower or self.upper.is_lower:
            raise ValueError(
                "an interval is a lower and an upper bound, in this order."
            )
        if self.kind is Kind.CERTIFIED and self.lower.value > self.upper.value:
            raise ValueError(
                f"the lower bound {self.lower.value!r} exceeds the upper bound "
                f"{self.upper.value!r}."
            )

    @property
    def kind(self) -> Kind:
        """The weaker kind of the two ends."""
        return Kind.weakest((self.lower.kind, self.upper.kind))

    def __str__(self) -> str:
        return f"[{self.lower}, {self.upper}]"


def derived(
    value: float, terms: Iterable[Bound], source: str, *, is_lower: bool = False
) -> Bound:
    r"""
    A bound that was computed from others: of the weakest kind among them, and failing
    at most with the sum of their probabilities.

    :param float value: its value; infinite or NaN where the terms prove nothing.
    :param Iterable terms: the bounds it was computed from.
    :param str source: how.
    :param bool is_lower: whether it bounds from below.
    """
    terms = list(terms)
    if math.isnan(value):
        value = 0.0 if is_lower else math.inf
    return Bound(
        value,
        Kind.weakest(term.kind for term in terms),
        source,
        is_lower,
        min(sum(term.delta for term in terms), 1 - 1e-16),
        "; ".join(dict.fromkeys(term.point for term in terms if term.point)),
    )


def unproved(reason: str) -> Bound:
    """The bound that says nothing, and why."""
    return Bound(math.inf, source=reason)


def outward(value: float, *, is_lower: bool = False, relative: float = 1e-12) -> float:
    r"""
    Move a value computed in float64 to its safe side, past the rounding it has met.

    :param float value: a nonnegative value.
    :param bool is_lower: whether it bounds from below.
    :param float relative: bound of the relative rounding error.
    """
    return value * (1 - relative) if is_lower else value * (1 + relative)
