"""The adjoints keep the contracts, and wrong ones do not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium import plugins, testing
from deepinv_equilibrium.fixed_points import Adjoint, LinearOperator

TIGHT = {"rtol": 1e-11, "max_iter": 500}
# What each named adjoint declares: its arguments, and those of the check.
DECLARED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "implicit": ({"solver": deq.GMRES(**TIGHT)}, {}),
    "unrolled": ({}, {}),
    "neumann": ({"order": 4}, {"formula": testing.neumann_sum(4)}),
    "jacobian-free": ({"steps": 3}, {"formula": testing.neumann_sum(2)}),
    "shine": ({}, {"formula": None}),
}
VARIANTS: list[tuple[Adjoint, dict[str, Any]]] = [
    (deq.Implicit(deq.CGNE(**TIGHT)), {}),
    (deq.Implicit(deq.CG(**TIGHT)), {"symmetric": True}),
    (deq.JacobianFree(), {"formula": testing.neumann_sum(0)}),
    (deq.SHINE(refine=12), {}),
]


@pytest.mark.parametrize("name", plugins.names("adjoints"))
def test_named_adjoint_keeps_the_contracts(name: str) -> None:
    arguments, declared = DECLARED[name]
    adjoint = plugins.create("adjoints", name, **arguments)
    testing.check_adjoint(adjoint, **declared)


# Numbers as ids: the address of a function differs between workers.
@pytest.mark.parametrize(("adjoint", "declared"), VARIANTS, ids=range(len(VARIANTS)))
def test_adjoint_with_other_arguments_keeps_the_contracts(
    adjoint: Adjoint, declared: dict[str, Any]
) -> None:
    testing.check_adjoint(adjoint, **declared)


def test_approximation_is_not_exact() -> None:
    for adjoint in (deq.JacobianFree(), deq.Neumann(order=2)):
        with pytest.raises(testing.ContractError, match="gives_the_declared_gradient"):
            testing.check_adjoint(adjoint)


@dataclass(frozen=True)
class Wrong(deq.Implicit):
    """The implicit gradient, wrong in one way."""

    wrong: str = ""

    def transform(self, recording: Any, cotangent: Any) -> Any:
        if self.wrong == "does not transpose":
            operator = recording.adjoint_operator()
            transposed = LinearOperator(operator.adjoint, operator.apply)
            return self.solver.run(transposed, recording.right_side(cotangent))
        if self.wrong == "leaves out the output":
            cotangent = replace(cotangent, output=None)
        v, report = super().transform(recording, cotangent)
        if self.wrong == "is twice as large":
            v = 2 * v
        if self.wrong == "couples samples":
            v = v + 1e-3 * v.mean(dim=0)
        if self.wrong == "has an absolute floor":
            v = torch.where(v.abs() < 1e-3, 0.0, v)
        if self.wrong == "holds a cycle":
            cycle: list[Any] = [recording]
            cycle.append(cycle)
        return v, report

    def record(self, step: Any, iterate: Tensor, excluded: Tensor) -> Any:
        if self.wrong == "counts failed samples":
            excluded = torch.zeros_like(excluded)
        return super().record(step, iterate, excluded)

    def track(self, *args: Any) -> Any:
        tracked = super().track(*args)
        if self.wrong == "changes the value":
            return replace(tracked, x=tracked.x + 1e-6)
        return tracked


@dataclass(frozen=True)
class CutOff(deq.Unrolled):
    """Unrolled, whose second derivative misses a term."""

    def track(self, *args: Any) -> Any:
        tracked = super().track(*args)
        if tracked.x.requires_grad:
            tracked.x.register_hook(lambda grad: grad.detach())
        return tracked


@pytest.mark.parametrize(
    ("wrong", "contract", "message"),
    [
        ("does not transpose", "gives_the_declared_gradient", "J in the place of its"),
        ("is twice as large", "gives_the_declared_gradient", "is 2 times the right"),
        ("is twice as large", "agrees_with_finite_differences", "differs by"),
        ("couples samples", "keeps_samples_apart", "the gradient of sample 0"),
        ("leaves out the output", "differentiates_outputs", "through an output"),
        ("counts failed samples", "leaves_out_failed_samples", "beside a sample with"),
        ("changes the value", "changes_no_value", "x with gradient differs"),
        ("has an absolute floor", "scales_with_the_loss", "times the loss differs"),
        ("holds a cycle", "frees_its_memory", "a cycle of references"),
    ],
)
def test_wrong_adjoint_breaks_its_contract(
    wrong: str, contract: str, message: str
) -> None:
    solver = deq.GMRES(**TIGHT)
    assert testing.adjoint_contracts()[contract](Wrong(solver)) == "holds"
    with pytest.raises(testing.ContractError, match=message) as caught:
        testing.adjoint_contracts()[contract](Wrong(solver, wrong))
    assert caught.value.contract == contract


def test_adjoint_with_a_wrong_second_derivative_breaks_its_contract() -> None:
    contract = testing.adjoint_contracts()["differentiates_twice_or_raises"]
    assert contract(deq.Unrolled()) == "holds"
    with pytest.raises(testing.ContractError, match="which did not raise an error"):
        contract(CutOff())


def test_what_is_not_an_adjoint_is_refused() -> None:
    with pytest.raises(TypeError, match="adjoint must be an Adjoint"):
        testing.check_adjoint(deq.GMRES())
