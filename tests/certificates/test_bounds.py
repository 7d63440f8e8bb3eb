from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepinv_equilibrium.certificates import Bound, Interval, Kind
from deepinv_equilibrium.certificates.bounds import derived, outward

from ..one_test import in_one_test


def test_derived_has_the_weakest_kind() -> None:
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
def test_derived_from_nan_is_vacuous(is_lower: bool) -> None:
    assert derived(math.nan, [], "", is_lower=is_lower).is_vacuous


@pytest.mark.parametrize("kind", [Kind.ESTIMATED, Kind.OBSERVED])
def test_only_certified_bounds_are_printed_as_certified(kind: Kind) -> None:
    assert "certified" not in str(Bound(1.0, kind, "power iteration"))
    assert "<=" not in str(Bound(1.0, kind, "power iteration"))
    assert "certified" in str(Bound(1.0))


@in_one_test(
    ("arguments", "match"),
    [
        ({"value": math.nan}, "nonnegative"),
        ({"value": -1.0}, "nonnegative"),
        ({"value": 1.0, "delta": 0.1}, "not certified"),
        ({"value": 1.0, "delta": 1.0, "kind": Kind.ESTIMATED}, "delta"),
        ({"value": 1.0, "kind": "proved"}, "proved"),
    ],
)
def test_bound_raises_for_bad_arguments(
    arguments: dict[str, object], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        Bound(**arguments)


def test_interval_raises_for_bounds_in_wrong_order() -> None:
    low, high = Bound(1.0, is_lower=True), Bound(2.0)
    assert Interval(low, high).kind is Kind.CERTIFIED
    assert Interval(low, Bound(2.0, Kind.ESTIMATED)).kind is Kind.ESTIMATED
    with pytest.raises(ValueError, match="in this order"):
        Interval(high, low)
    with pytest.raises(ValueError, match="exceeds"):
        Interval(Bound(3.0, is_lower=True), high)


def test_outward_moves_to_the_safe_side() -> None:
    assert outward(1.0) > 1.0 > outward(1.0, is_lower=True) > 0.99


def test_lower_bound_may_be_negative_and_moves_down() -> None:
    curvature = Bound(-0.75, source="weakly convex", is_lower=True)
    assert not curvature.is_vacuous
    assert str(curvature) == ">= -0.75 (certified: weakly convex)"
    assert outward(-1.0, is_lower=True) < -1.0
    assert Bound(-0.1234567, is_lower=True).rounded(6) == "-0.123457"
    assert derived(math.nan, [curvature], "", is_lower=True).value == -math.inf
    assert Interval(curvature, Bound(2.0)).of_one_kind().lower.value == -0.75


def test_infinite_bound_is_not_printed_as_certified() -> None:
    assert str(Bound(math.inf, source="a DRUNet")) == "no bound (a DRUNet)"


@given(st.floats(1e-12, 1e12), st.booleans())
def test_printed_bound_is_rounded_outward(value: float, is_lower: bool) -> None:
    shown = float(str(Bound(value, is_lower=is_lower)).split()[1])
    assert shown == pytest.approx(value, rel=1.1e-5)
    if is_lower:
        assert shown <= value * (1 + 1e-9)
    else:
        assert shown >= value * (1 - 1e-9)


def test_printed_bound_hides_the_margin_of_outward() -> None:
    assert str(Bound(0.99 * (1 + 1e-12))).startswith("<= 0.99 ")
    assert str(Bound(0.9498033697)).startswith("<= 0.949804 ")
    assert str(Bound(0.9498036, is_lower=True)).startswith(">= 0.949803 ")
