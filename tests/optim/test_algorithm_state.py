"""States: the components of deepinv's estimate, and the completion of starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from deepinv.utils import TensorList

import deepinv_equilibrium as deq
from deepinv_equilibrium.optim.algorithm_state import (
    DOUGLAS_RACHFORD,
    EXTRAPOLATED,
    MULTIPLIERS,
    PRIMAL,
    PRIMAL_DUAL,
    PRIMAL_DUAL_PAIR,
    AlgorithmState,
    starting_estimate,
)

from ..one_test import in_one_test

X, Z, U = (torch.full((1, 2), value) for value in (1.0, 2.0, 3.0))
WIDE = torch.full((1, 5), 4.0)


@in_one_test(
    ("algorithm", "state"),
    [
        *((name, PRIMAL) for name in ("PGD", "GD", "HQS", "MD", "PMD")),
        ("ADMM", MULTIPLIERS),
        ("DRS", DOUGLAS_RACHFORD),
        ("PDCP", PRIMAL_DUAL),
        ("FISTA", EXTRAPOLATED),
        ("CondatVu", PRIMAL_DUAL_PAIR),
    ],
)
def test_algorithm_state_of_optimiser(algorithm: str, state: AlgorithmState) -> None:
    assert getattr(deq.optim, algorithm).algorithm_state is state


@in_one_test(
    ("state", "start", "complete"),
    [
        (PRIMAL, (X,), (X,)),
        (PRIMAL, (X, Z), (X,)),
        (DOUGLAS_RACHFORD, (X,), (X, X)),
        (DOUGLAS_RACHFORD, (X, Z), (Z, Z)),
        (DOUGLAS_RACHFORD, (X, WIDE), (X, X)),
        (MULTIPLIERS, (X,), (X, torch.zeros_like(X))),
        (MULTIPLIERS, (X, Z), (X, Z)),
        (MULTIPLIERS, (X, WIDE), (X, torch.zeros_like(X))),
        (EXTRAPOLATED, (X,), (X, X)),
        (EXTRAPOLATED, (X, Z), (X, Z)),
        (PRIMAL_DUAL, (X,), (X, X, torch.zeros_like(X))),
        (PRIMAL_DUAL, (X, Z), (X, Z, torch.zeros_like(X))),
        (PRIMAL_DUAL, (X, Z, U), (X, Z, U)),
        (PRIMAL_DUAL, (X, Z, WIDE), (X, Z, torch.zeros_like(X))),
        (PRIMAL_DUAL_PAIR, (X,), (X, torch.zeros_like(X))),
        (PRIMAL_DUAL_PAIR, (X, U), (X, U)),
        (PRIMAL_DUAL_PAIR, (X, WIDE), (X, torch.zeros_like(X))),
    ],
)
def test_complete_fills_in_missing_components(
    state: AlgorithmState, start: tuple[Any, ...], complete: tuple[Any, ...]
) -> None:
    found = state.complete(start, lambda x: x)
    assert len(found) == len(complete) == state.length
    assert all(torch.equal(a, b) for a, b in zip(found, complete, strict=True))
    again = state.complete(state.expand(state.select(found)), lambda x: x)
    selected, twice = state.select(found), state.select(again)
    for a, b in zip(
        selected if isinstance(selected, tuple) else (selected,),
        twice if isinstance(twice, tuple) else (twice,),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_complete_starts_the_dual_variable_in_the_range_of_K() -> None:
    _, _, u = PRIMAL_DUAL.complete((X,), lambda x: torch.cat([x, x, x], 1))
    assert torch.equal(u, torch.zeros(1, 6))


@in_one_test("start", [X, (X,), [X], {"est": (X,)}, {"est": X}])
def test_starting_estimate_returns_a_tuple_for_every_form_of_start(start: Any) -> None:
    assert starting_estimate(start) == (X,)


def test_starting_estimate_drops_a_dual_variable_with_several_parts() -> None:
    assert starting_estimate({"est": (X, Z, TensorList([U, WIDE]))}) == (X, Z)


@in_one_test("start", [None, 1.0, "x", (), [], {}, {"est": ()}, (X, None)])
def test_starting_estimate_raises_for_other_types(start: Any) -> None:
    with pytest.raises(TypeError, match="init must be a tensor, a tuple of tensors"):
        starting_estimate(start)


def test_run_from_the_state_of_a_run_continues_the_run(
    algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm)
    physics = problem.physics()

    def run(n: int, init: Any = None) -> Any:
        model = problem.model(DEQ=deq.Equilibrium(deq.Picard(max_iter=n, rtol=0.0)))
        with torch.no_grad():
            x = model(problem.y, physics, init=init)
        return x, model.solution.x

    state = getattr(deq.optim, algorithm).algorithm_state
    reached, at_three = run(3)
    expected, _ = run(7)
    found, _ = run(4, {"est": state.expand(at_three)})
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    assert not torch.allclose(reached, expected)
