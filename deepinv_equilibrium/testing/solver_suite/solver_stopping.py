"""Contracts about stopping, statuses and counts of fixed-point solvers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...fixed_points import Solution, State, Status
from ..contracts import require, require_close
from ..random_problems import F64, RandomSteps, as_tensor, normal
from .solver_case import SolverCase, shown, solve, status_names


def keeps_samples_apart(case: SolverCase) -> None:
    """A sample's result is the same alone and in any batch, in any order."""
    steps = RandomSteps.draw(case.rates, affine=False)
    for solver in (case.solver(1e-4), case.solver(0.0, 7)):
        together = solve(steps, steps.start, solver)
        for order in ([0], [1], [2], [2, 0, 1]):
            part = steps.take(order)
            other = solve(part, part.start, solver)
            _require_same(together, other, order, "the other samples")


def _require_same(a: Solution, b: Solution, order: list[int], mates: str) -> None:
    """Raise an error unless ``b`` agrees with some samples of ``a``."""
    for name in ("iterations", "evaluations"):
        found, expected = getattr(b, name), getattr(a, name)[order]
        require(
            torch.equal(found, expected),
            f"{name} of samples {order} change with {mates}: {found.tolist()} instead "
            f"of {expected.tolist()}",
        )
    statuses = [a.status[i] for i in order]
    require(
        list(b.status) == statuses,
        f"statuses of samples {order} change with {mates}: {status_names(b)}",
    )
    expected = as_tensor(a.x)[order]
    require_close(f"x of samples {order} with {mates}", as_tensor(b.x), expected, 1e-12)


def stops_each_sample(case: SolverCase) -> None:
    """Each sample stops by its own residual: an easy sample before a hard one, and a
    sample that starts at its fixed point after one evaluation."""
    steps = RandomSteps.draw(case.rates)
    start = torch.zeros_like(steps.offsets)
    start[1] = steps.solution[1]
    solution = solve(steps, start, case.solver(1e-8))
    easy, known, hard = solution.iterations.tolist()
    require(known == 1, f"a sample that starts at its fixed point takes {known} steps")
    require(
        easy < hard,
        f"a step of rate {case.rates[0]:.2g} takes {easy} iterations, not less than "
        f"the {hard} of one of rate {case.rates[2]:.2g} in its batch",
    )
    after = solution.history[easy:, 0]
    require(after.isnan().all(), "the history of a sample goes on after it has stopped")


def stops_at_the_absolute_tolerance(case: SolverCase) -> None:
    """With ``rtol=0`` each sample stops when its absolute residual is at most
    ``atol``."""
    steps = RandomSteps.draw(case.rates)
    atol = 1e-6
    solver = replace(case.solver(0.0), atol=atol)
    solution = solve(steps, steps.start, solver)
    require(
        solution.converged.all(),
        f"with rtol=0 and atol={atol:g} contractions end as {status_names(solution)}, "
        "not CONVERGED",
    )
    require(
        (solution.absolute_residual <= atol).all(),
        f"the absolute residuals {shown(solution.absolute_residual)} exceed "
        f"atol = {atol:g}",
    )


def refuses_wrong_arguments(case: SolverCase) -> None:
    """A budget below 1 and tolerances out of their range raise a ValueError; see
    ``super().__post_init__()`` for a solver that checks fields of its own."""
    wrong: list[dict[str, Any]] = [{"max_iter": 0}, {"rtol": -0.1}, {"rtol": 1.0}]
    for arguments in (*wrong, {"atol": -1.0}):
        try:
            replace(case.component, **arguments)
        except ValueError:
            continue
        require(
            False,
            f"{arguments} is accepted: call super().__post_init__() in the "
            "__post_init__ of the solver",
        )


def respects_max_iter(case: SolverCase) -> None:
    """The step is evaluated at most ``max_iter`` times, and the report has the number
    of evaluations."""
    for budget in (1, 2, 9):
        steps = RandomSteps.draw(case.rates)
        solution = solve(steps, steps.start, case.solver(0.0, budget))
        require(
            steps.evaluations == budget,
            f"with rtol=0 and max_iter={budget} the step is evaluated "
            f"{steps.evaluations} times",
        )
        for name in ("iterations", "evaluations"):
            counts = getattr(solution, name).tolist()
            require(
                counts == [budget] * len(counts),
                f"{name} is {counts} after {budget} evaluations",
            )
        require(
            set(solution.status) == {Status.COMPLETED},
            f"a fixed budget ends as {status_names(solution)}, not COMPLETED",
        )
    steps = RandomSteps.draw(case.rates[-1:])
    solution = solve(steps, steps.start, case.solver(1e-12, 2))
    require(
        solution.status == (case.out_of_budget,),
        f"a budget that is too small ends as {status_names(solution)}, not "
        f"{case.out_of_budget.name}",
    )


def names_failures(case: SolverCase) -> None:
    """Divergent and non-finite samples have the right status and finite values, and do
    not change the other samples."""
    steps = RandomSteps.draw(case.rates, affine=False)
    solver = case.solver(1e-8, 150)
    clean = solve(steps, steps.start, solver)

    def spoilt(state: State) -> State:
        value = as_tensor(steps(state))
        runaway = (1 + as_tensor(state)[1]) ** 2  # nowhere near a fixed point
        return torch.stack([value[0] * math.nan, runaway, value[2]])

    solution = solve(spoilt, steps.start, solver)
    status = solution.status
    require(
        status[0] is Status.NONFINITE,
        f"a step that returns NaN ends as {status[0].name}, not NONFINITE",
    )
    if solver.certified_rate is not None:
        accepted = {Status.REFUTED}
    elif solver.accelerated or solver.has_fixed_budget:
        # The best iterate hides the growth, and a fixed budget runs into infinity.
        accepted = {Status.DIVERGED, Status.MAX_ITER, Status.NONFINITE}
    else:
        accepted = {Status.DIVERGED}
    require(
        status[1] in accepted,
        f"a step without a fixed point whose residual grows ends as {status[1].name}, "
        f"not {' or '.join(other.name for other in sorted(accepted))}",
    )
    require(
        as_tensor(solution.x).isfinite().all(),
        "x of a sample that failed holds NaN or infinity",
    )
    _require_same(
        _one(solution, 2), _one(clean, 2), [0], "batch-mates that fail beside them"
    )


def _one(solution: Solution, i: int) -> Solution:
    return replace(
        solution,
        x=as_tensor(solution.x)[i : i + 1],
        status=solution.status[i : i + 1],
        iterations=solution.iterations[i : i + 1],
        evaluations=solution.evaluations[i : i + 1],
    )


class PositiveStep:
    r""":math:`f(x) = 0.1 + \rho x^2 / (1 + x)` on positive states: it contracts at the
    rate :math:`\rho`, and a straight line through two of its values leaves the domain
    where it meets the diagonal."""

    def __init__(self, rate: float, shift: Tensor) -> None:
        self.rate = rate
        self.shift = shift
        self.outside = 0

    def domain(self, state: State) -> Tensor:
        """Where every entry is positive."""
        return (as_tensor(state) > 0).all(dim=1)

    def __call__(self, state: State) -> State:
        """The value of the step, which counts samples outside its domain."""
        self.outside += int((~self.domain(state)).sum())
        x = as_tensor(state)
        return self.shift + self.rate * x**2 / (1 + x)


def respects_the_domain(case: SolverCase) -> None:
    """The step is never evaluated outside its domain, and a sample whose plain step
    leaves the domain ends as DIVERGED."""
    rate = case.rates[-1]
    start = 100 * normal(8, 3).abs() + 0.01
    step = PositiveStep(rate, torch.full_like(start, 0.1))
    solution = solve(step, start, case.solver(1e-8))
    require(
        step.outside == 0,
        f"{step.outside} samples were evaluated outside the domain of the step",
    )
    require(
        solution.converged.all(),
        f"a contraction on positive states ends as {status_names(solution)}",
    )
    step = PositiveStep(rate, torch.tensor([[0.1], [-100.0]], dtype=F64))
    solution = solve(step, torch.full((2, 1), 4.0, dtype=F64), case.solver(1e-8))
    require(step.outside == 0, "a value outside the domain was evaluated again")
    require(
        solution.status == (Status.CONVERGED, Status.DIVERGED),
        f"a plain step that leaves the domain ends as {solution.status[1].name}, not "
        "DIVERGED",
    )
    x = as_tensor(solution.x)
    require((x > 0).all(), "x is outside the domain of the step")


def learns_nothing_from_rejected_samples(case: SolverCase) -> None:
    """What the rows of a rejected sample hold changes no later proposal, and proposals
    for contractions are finite."""
    # A solver that works in cycles may forget in some rounds what it should never have
    # learned.
    for round_ in range(1, 7):
        spoilt, other = (_proposals(case, x, round_) for x in (math.nan, 7.0))
        require(
            bool(torch.stack(other).isfinite().any()),
            "all proposals for affine contractions are NaN or infinite",
        )
        for after, (a, b) in enumerate(zip(spoilt, other, strict=True)):
            require(
                torch.equal(a, b),
                f"the proposals {after + 1} rounds after a rejection in round "
                f"{round_ + 1} depend on the rows x and value of the rejected sample, "
                "for which active is false",
            )


def _proposals(case: SolverCase, content: float, round_: int) -> list[Tensor]:
    """Return the proposals after a round in which the first sample is rejected and its
    rows hold a number."""
    steps = RandomSteps.draw(case.rates)
    x = torch.zeros_like(steps.offsets)
    iteration = case.solver().begin(x, steps.layout)
    first = torch.tensor([True, False, False])
    proposals = []
    for index in range(round_ + 6):
        value = as_tensor(steps(x))
        rejected = first & (index == round_)
        if case.component.accelerated:
            iteration.forget(rejected)
        hidden = rejected[:, None]
        proposal = iteration.propose(
            torch.where(hidden, content, x),
            torch.where(hidden, content, value),
            ~rejected,
        )
        # As in a solve, a rejected sample goes on at its last value.
        x = torch.where(hidden, value, proposal)
        if index > round_:
            proposals.append(proposal)
    return proposals
