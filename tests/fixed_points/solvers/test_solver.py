from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from deepinv_equilibrium.fixed_points import (
    Restarts,
)

from ...one_test import in_one_test
from ..exported_classes import LINEAR_SOLVER_TYPES, SOLVER_TYPES

TYPES = [Restarts, *SOLVER_TYPES, *LINEAR_SOLVER_TYPES]


@in_one_test("solver_type", TYPES)
@in_one_test(
    ("name", "value"),
    [
        ("max_iter", 0),
        ("max_iter", -3),
        ("max_iter", 10.0),
        ("max_iter", True),
        ("rtol", -1e-9),
        ("rtol", 1.0),
        ("rtol", float("nan")),
        ("atol", -1.0),
        ("atol", float("inf")),
        ("atol", float("nan")),
    ],
)
def test_argument_out_of_range_raises_with_its_name_and_value(
    solver_type: Any, name: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*{value!r}"):
        solver_type(**{name: value})


@in_one_test("solver_type", TYPES)
def test_unknown_and_positional_arguments_raise(solver_type: Any) -> None:
    with pytest.raises(TypeError, match="max_iters"):
        solver_type(max_iters=7)
    with pytest.raises(TypeError, match="positional"):
        solver_type(7)


@in_one_test("solver_type", TYPES)
def test_solvers_are_frozen_and_hashable(solver_type: Any) -> None:
    solver = solver_type()
    with pytest.raises(dataclasses.FrozenInstanceError):
        solver.max_iter = 3
    assert solver == solver_type()
    assert hash(solver) == hash(solver_type())


@in_one_test("solver_type", TYPES)
def test_budget_is_fixed_without_tolerances(solver_type: Any) -> None:
    assert solver_type(rtol=0).has_fixed_budget
    assert not solver_type(rtol=0).has_tolerance
    assert solver_type(rtol=0, atol=1e-3).has_tolerance
    assert solver_type(rtol=1e-3).has_fixed_budget == (solver_type is Restarts)
