from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepinv_equilibrium.certificates import Bound, Interval, Kind
from deepinv_equilibrium.certificates.bounds import derived, outward


def test_what_is_computed_from_several_is_of_the_weakest_kind() -> None:
    terms = [
        Bound(0.5),
        Bound(2.0, Kind.ESTIMATED, delta=0.01, point="x"),
        Bound(2.0, Kind.ESTIMATED, delta=0.02, point="x"),
    ]
    bound = derived(1.0, terms, "product")
    assert bound.kind is Kind.ESTIMATED
    assert bound.delta == pytest.approx(0.03)
    assert bound.point == "x"
    assert derived(1.0, terms[:1], "product").is_certified
    assert derived(1.0, [*terms, Bound(1, Kind.OBSERVED)], "").kind is Kind.OBSERVED


@pytest.mark.parametrize("is_lower", [False, True])
def test_what_cannot_be_computed_is_vacuous(is_lower: bool) -> None:
    assert derived(math.nan, [], "", is_lower=is_lower).is_vacuous


@pytest.mark.parametrize("kind", [Kind.ESTIMATED, Kind.OBSERVED])
def test_only_what_is_certified_is_printed_as_certified(kind: Kind) -> None:
    assert "certified" not in str(Bound(1.0, kind, "power iteration"))
    assert "<=" not in str(Bound(1.0, kind, "power iteration"))
    assert "certified" in str(Bound(1.0))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"value": math.nan}, "nonnegative"),
        ({"value": -1.0}, "nonnegative"),
        ({"value": 1.0, "delta": 0.1}, "not certified"),
        ({"value": 1.0, "delta": 1.0, "kind": Kind.ESTIMATED}, "delta"),
        ({"value": 1.0, "kind": "proved"}, "proved"),
    ],
)
def test_impossible_bounds_are_refused(
    arguments: dict[str, object], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        Bound(**arguments)


def test_an_interval_has_its_ends_in_order() -> None:
    low, high = Bound(1.0, is_lower=True), Bound(2.0)
    assert Interval(low, high).kind is Kind.CERTIFIED
    assert Interval(low, Bound(2.0, Kind.ESTIMATED)).kind is Kind.ESTIMATED
    with pytest.raises(ValueError, match="in this order"):
        Interval(high, low)
    with pytest.raises(ValueError, match="exceeds"):
        Interval(Bound(3.0, is_lower=True), high)


def test_outward_goes_to_the_safe_side() -> None:
    assert outward(1.0) > 1.0 > outward(1.0, is_lower=True) > 0.99


def test_what_proves_nothing_does_not_say_certified() -> None:
    assert str(Bound(math.inf, source="a DRUNet")) == "no bound (a DRUNet)"


@given(st.floats(1e-12, 1e12), st.booleans())
def test_what_is_printed_is_a_bound_too(value: float, is_lower: bool) -> None:
    shown = float(str(Bound(value, is_lower=is_lower)).split()[1])
    assert shown == pytest.approx(value, rel=1.1e-5)
    if is_lower:
        assert shown <= value * (1 + 1e-9)
    else:
        assert shown >= value * (1 - 1e-9)


def test_prints_what_was_moved_past_its_rounding_as_it_was() -> None:
    assert str(Bound(0.99 * (1 + 1e-12))).startswith("<= 0.99 ")
    assert str(Bound(0.9498033697)).startswith("<= 0.949804 ")
    assert str(Bound(0.9498036, is_lower=True)).startswith(">= 0.949803 ")
