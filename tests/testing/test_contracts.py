"""Contracts as functions, their names, their errors and their reports."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium import testing
from deepinv_equilibrium.testing.contracts import (
    Contract,
    ContractReport,
    NotApplicableError,
    Suite,
    require,
)

from ..one_test import in_one_test

LISTS = {
    "solver": testing.solver_contracts,
    "linear_solver": testing.linear_solver_contracts,
    "adjoint": testing.adjoint_contracts,
    "denoiser": testing.denoiser_contracts,
    "prior": testing.prior_contracts,
    "physics": testing.physics_contracts,
    "model": testing.model_contracts,
}


@pytest.mark.parametrize("contract", testing.solver_contracts().values())
def test_contracts_can_be_parameters_of_pytest(
    contract: Contract[..., object], request: pytest.FixtureRequest
) -> None:
    assert contract.__name__ in request.node.name
    assert isinstance(contract(deq.Picard()), str)


@in_one_test("kind", LISTS)
def test_contracts_are_listed_by_name_and_documented(kind: str) -> None:
    contracts = LISTS[kind]()
    assert len(contracts) >= 6
    for name, contract in contracts.items():
        assert name == contract.__name__
        assert contract.__doc__
    contracts.clear()
    assert LISTS[kind]()


class Number:
    """A component that is a number."""

    def __init__(self, component: float) -> None:
        self.component = component


def is_positive(case: Number) -> None:
    """The number is positive."""
    require(case.component > 0, f"{case.component} is not positive")


def is_even(case: Number) -> None:
    """An integer is even."""
    if not isinstance(case.component, int):
        raise NotApplicableError("not an integer")
    require(case.component % 2 == 0, f"{case.component} is odd")


def is_small(case: Number) -> None:
    """The reciprocal is large."""
    require(1 / case.component > 0.1, "too large")


@pytest.fixture
def suite() -> Suite[[float], Number]:
    return Suite(Number, is_positive, is_even, is_small)


def test_report_says_what_holds_and_what_does_not_apply(
    suite: Suite[[float], Number],
) -> None:
    report = suite.check(Number(2.5))
    assert report == ContractReport(
        "float",
        {
            "is_positive": "holds",
            "is_even": "does not apply: not an integer",
            "is_small": "holds",
        },
    )
    assert report.held == ["is_positive", "is_small"]
    assert str(report).splitlines() == [
        "float",
        "is_positive  holds",
        "is_even      does not apply: not an integer",
        "is_small     holds",
    ]


@pytest.mark.parametrize(
    ("number", "contract", "message", "cause"),
    [
        (-2, "is_positive", "int breaks .*'is_positive': -2 is not p", type(None)),
        (3, "is_even", "int breaks the contract 'is_even': 3 is odd", type(None)),
        ("a", "is_positive", "it raised TypeError: '>' not supported", TypeError),
    ],
)
def test_error_names_contract_and_component_and_chains_another_error(
    number: float,
    contract: str,
    message: str,
    cause: type,
    suite: Suite[[float], Number],
) -> None:
    with pytest.raises(testing.ContractError, match=message) as caught:
        suite.check(Number(number))
    assert isinstance(caught.value, AssertionError)
    assert caught.value.contract == contract
    assert caught.value.component == type(number).__name__
    assert caught.value.reason in str(caught.value)
    assert isinstance(caught.value.__cause__, cause)
    with pytest.raises(testing.ContractError, match=message):
        suite.contracts[contract](number)


@pytest.mark.parametrize("check", ["solver", "adjoint", "prior"])
def test_checks_leave_the_global_random_numbers_alone(check: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        "solver": lambda: testing.check_solver(deq.Picard()),
        "adjoint": lambda: testing.check_adjoint(deq.Unrolled()),
        "prior": lambda: testing.check_prior(dinv.optim.Tikhonov(), (1, 4, 4)),
    }
    state = torch.get_rng_state()
    calls[check]()
    assert torch.equal(torch.get_rng_state(), state)


def test_the_suites_need_no_test_runner() -> None:
    folder = Path(testing.__file__).parent
    for path in folder.rglob("*.py"):
        imports = re.findall(r"^(?:import|from) (\w+)", path.read_text("utf-8"), re.M)
        assert not {"pytest", "hypothesis"} & set(imports), path
