"""The arguments of a check of a fixed-point solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...fixed_points import (
    FixedPointSolver,
    Solution,
    State,
    Status,
    Step,
    fixed_point,
)

BATCH = (0.1, 0.6, 1.0)  # shares of the rate: samples from easy to hard


@dataclass(frozen=True)
class SolverCase:
    """The arguments of :func:`check_solver`."""

    component: FixedPointSolver
    rate: float = 0.8

    def __post_init__(self) -> None:
        if not isinstance(self.component, FixedPointSolver):
            raise TypeError(
                "solver must be a FixedPointSolver, got "
                f"{self.component!r}; for a solver of linear systems use "
                "check_linear_solver."
            )
        if not 0 < self.rate < 1:
            raise ValueError(f"rate must be in (0, 1), got {self.rate!r}.")

    @property
    def rates(self) -> list[float]:
        """Rates of the samples, at most the rate that the solver relies on."""
        known = self.component.certified_rate
        rate = self.rate if known is None else min(self.rate, 0.999 * known)
        return [share * rate for share in BATCH]

    def solver(self, rtol: float = 1e-10, max_iter: int = 1000) -> FixedPointSolver:
        """The solver with another tolerance and budget."""
        return replace(self.component, rtol=rtol, atol=0.0, max_iter=max_iter)

    @property
    def out_of_budget(self) -> Status:
        """How a sample ends that spends the budget before it meets the tolerance."""
        fixed = self.solver().has_fixed_budget
        return Status.COMPLETED if fixed else Status.MAX_ITER


def solve(
    step: Step,
    x0: State,
    solver: FixedPointSolver,
    observer: Callable[[State, State], None] | None = None,
) -> Solution:
    """Solve without gradient and without warnings."""
    with torch.no_grad():
        return fixed_point(step, x0, solver, on_failure="ignore", observer=observer)


def status_names(solution: Solution) -> str:
    """Names of the statuses of all samples."""
    return ", ".join(status.name for status in solution.status)


def shown(values: Tensor) -> str:
    """Short form of some numbers."""
    return ", ".join(f"{value:.2e}" for value in values.tolist())
