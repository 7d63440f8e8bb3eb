"""The solvers keep the contracts, and wrong ones do not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium import plugins, testing
from deepinv_equilibrium.fixed_points import (
    FixedPointSolver,
    Iteration,
    LinearOperator,
    Picard,
    Restarts,
    StateLayout,
)

from .named_components import create

ARGUMENTS: dict[str, dict[str, Any]] = {
    "safeguarded": {"proposal": deq.Anderson(), "rate": 0.8}
}
VARIANTS = [
    deq.Picard(relaxation=0.7),
    Restarts(),
    deq.Anderson(history_size=2, beta=0.8),
    deq.Anderson(history_size=1),
    deq.Broyden(history_size=3),
    deq.Safeguarded(lambda x, value: value, rate=0.5),
]
# Conjugate gradients ask for symmetric systems.
SYMMETRIC = ("cg",)


@pytest.mark.parametrize("name", plugins.names("solvers"))
def test_named_solver_keeps_the_contracts(name: str) -> None:
    testing.check_solver(create("solvers", name, ARGUMENTS))


# Numbers as ids: the address of a function differs between workers.
@pytest.mark.parametrize("solver", VARIANTS, ids=range(len(VARIANTS)))
def test_solver_with_other_arguments_keeps_the_contracts(
    solver: FixedPointSolver,
) -> None:
    testing.check_solver(solver)


def test_over_relaxed_solver_keeps_the_contracts_at_its_rate() -> None:
    solver = Picard(relaxation=1.5)
    testing.check_solver(solver, rate=0.3)
    with pytest.raises(testing.ContractError, match="statuses are"):
        testing.check_solver(solver, rate=0.8)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", plugins.names("linear_solvers"))
def test_named_linear_solver_keeps_the_contracts(name: str, symmetric: bool) -> None:
    solver = create("linear_solvers", name, {})
    if symmetric or name not in SYMMETRIC:
        testing.check_linear_solver(solver, symmetric)
    else:
        with pytest.raises(testing.ContractError, match="solves_systems"):
            testing.check_linear_solver(solver, symmetric)


class Update(Iteration):
    """Picard's, with an update that is chosen."""

    def __init__(self, wrong: str) -> None:
        self.wrong = wrong

    def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
        if self.wrong == "stays at its start":
            return x
        if self.wrong == "couples samples":
            return value + 1e-3 * (value - x).mean(dim=0)
        if self.wrong == "is absolute":
            return x + (value - x) * (1 - 0.1 / (1 + (value - x).norm(dim=1)))[:, None]
        return value


@dataclass(frozen=True, kw_only=True)
class Wrong(Picard):
    """Picard iteration that is wrong in one way."""

    wrong: str = ""

    @property
    def fills_inverse_jacobian(self) -> bool:
        return self.wrong == "promises an inverse"

    def begin(self, x0: Tensor, layout: StateLayout) -> Iteration:
        return Update(self.wrong)

    def run(self, step: Any, x0: Tensor, **kwargs: Any) -> Any:
        if self.wrong == "evaluates too often":
            step(x0)
        if self.wrong == "changes its input":
            x0.add_(1.0)
        if self.wrong == "ignores the domain":
            step._domain = None
        monitor = super().run(step, x0, **kwargs)
        if self.wrong == "returns its start":
            monitor.value = x0
        if self.wrong == "claims convergence":
            monitor.samples.status[:] = int(deq.Status.CONVERGED)
        if self.wrong == "reports small residuals":
            monitor.samples.absolute = monitor.samples.absolute / 10
        return monitor


@dataclass(frozen=True, kw_only=True)
class WithTensor(Picard):
    weight: Tensor = field(default_factory=lambda: torch.ones(2))


class NoDataclass(Picard):
    pass


@pytest.mark.parametrize(
    ("wrong", "contract", "message"),
    [
        ("stays at its start", "finds_fixed_points", "not CONVERGED"),
        ("returns its start", "finds_fixed_points", "distances to the fixed points"),
        ("couples samples", "keeps_samples_apart", "x of samples|iterations of"),
        ("evaluates too often", "respects_max_iter", "evaluated 2 times"),
        ("claims convergence", "respects_max_iter", "CONVERGED, not MAX_ITER"),
        ("reports small residuals", "reports_true_residuals", "absolute_residual"),
        ("ignores the domain", "respects_the_domain", "outside"),
        ("is absolute", "scales_with_the_problem", "scaled problem|times as large"),
        ("changes its input", "changes_no_input", "changed the initial state"),
        ("promises an inverse", "fills_the_inverse_jacobian", "empty although"),
    ],
)
def test_wrong_solver_breaks_its_contract(
    wrong: str, contract: str, message: str
) -> None:
    assert testing.solver_contracts()[contract](Wrong()) in ("holds", NO_ESTIMATE)
    with pytest.raises(testing.ContractError, match=message) as caught:
        testing.solver_contracts()[contract](Wrong(wrong=wrong))
    assert caught.value.contract == contract


NO_ESTIMATE = "does not apply: the solver builds no estimate"


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (WithTensor(), "WithTensor.weight is a tensor"),
        (NoDataclass(), "NoDataclass is not a dataclass itself"),
    ],
)
def test_solver_that_is_not_a_frozen_value_is_named(
    solver: FixedPointSolver, message: str
) -> None:
    with pytest.raises(testing.ContractError, match=message):
        testing.check_solver(solver)


@dataclass(frozen=True, kw_only=True)
class WrongLinear(deq.GMRES):
    """GMRES that is wrong in one way."""

    wrong: str = ""

    def run(self, operator: LinearOperator, rhs: Tensor) -> Any:
        if self.wrong == "transposes":
            operator = LinearOperator(operator.adjoint, operator.apply)
        if self.wrong == "couples samples":
            rhs = rhs + 1e-3 * rhs.mean(dim=0)
        if self.wrong == "multiplies too often":
            operator.apply(rhs)
        v, report = super().run(operator, rhs)
        return (torch.zeros_like(v) if self.wrong == "returns zero" else v), report


@pytest.mark.parametrize(
    ("wrong", "contract", "message"),
    [
        ("transposes", "solves_systems", "the solution in torch.float64 differs"),
        ("returns zero", "solves_systems", "the solution in torch.float64 differs"),
        ("returns zero", "reports_true_residuals", "residual differs"),
        ("couples samples", "keeps_samples_apart", "v of samples"),
        ("multiplies too often", "respects_max_iter", "2.* products and makes 3"),
    ],
)
def test_wrong_linear_solver_breaks_its_contract(
    wrong: str, contract: str, message: str
) -> None:
    assert testing.linear_solver_contracts()[contract](WrongLinear()) == "holds"
    with pytest.raises(testing.ContractError, match=message):
        testing.linear_solver_contracts()[contract](WrongLinear(wrong=wrong))


def test_solvers_of_the_other_kind_are_refused_with_the_right_check() -> None:
    with pytest.raises(TypeError, match="use check_linear_solver"):
        testing.check_solver(deq.GMRES())
    with pytest.raises(TypeError, match="use check_solver"):
        testing.check_linear_solver(deq.Anderson())
    with pytest.raises(ValueError, match=r"rate must be in \(0, 1\), got 1.0"):
        testing.check_solver(deq.Anderson(), rate=1.0)


@dataclass(frozen=True, kw_only=True)
class HeavyBall(FixedPointSolver):
    """Picard iteration with momentum, which may go wrong."""

    wrong: str = ""

    def begin(self, x0: Tensor, layout: StateLayout) -> Iteration:
        return Momentum(x0, self.wrong)


class Momentum(Iteration):
    def __init__(self, x0: Tensor, wrong: str) -> None:
        self.last, self.wrong = x0, wrong

    def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
        if self.wrong == "proposes NaN":
            return value * torch.nan
        change = value - self.last
        learned = active | torch.tensor(self.wrong == "ignores active")
        self.last = torch.where(learned[:, None], value, self.last)
        return value + 0.3 * change


def test_a_solver_that_learns_from_rejected_samples_is_found() -> None:
    contract = testing.solver_contracts()["learns_nothing_from_rejected_samples"]
    assert contract(HeavyBall()) == "holds"
    with pytest.raises(testing.ContractError, match="for which active is false"):
        contract(HeavyBall(wrong="ignores active"))
    with pytest.raises(testing.ContractError, match="are NaN or infinite"):
        contract(HeavyBall(wrong="proposes NaN"))
