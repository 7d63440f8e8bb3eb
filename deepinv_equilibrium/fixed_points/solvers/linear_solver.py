"""The base class of the solvers of linear systems, and the record of a solve."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..processes import ALONE, Processes
from ..solution import Report, Status
from .look_schedule import LookSchedule
from .solver import Solver

_FLOOR = 4.0  # smallest relative residual that is reported, in units of rounding


@dataclass(frozen=True)
class LinearOperator:
    r"""
    A batch of :math:`B` square matrices :math:`A`, given by their products.

    :param Callable apply: maps :math:`v`, of shape :math:`(B, n)`, to :math:`A v`.
    :param Callable adjoint: maps :math:`v`, of shape :math:`(B, n)`, to
        :math:`A^\top v`.
    :param Processes processes: the processes that compute each product together. The
        products are the same in all of them. Default: this process alone.
    :param Callable leave_out: told from time to time which samples still run. The
        others have zeros in all further arguments of ``apply`` and ``adjoint``.
        Default: ``None``.
    """

    apply: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]
    processes: Processes = ALONE
    leave_out: Callable[[Sequence[bool]], None] | None = None


@dataclass(frozen=True, kw_only=True)
class LinearSolver(Solver, ABC):
    r"""
    Base class of the solvers of :math:`A v = b`, which start from :math:`v = 0` and
    treat each sample separately.

    The relative residual is :math:`\|b - A v\| / \|b\|`. It is the recursive estimate
    of the method, clipped below at four units of rounding; with a smaller tolerance a
    sample ends as ``MAX_ITER``. A right side of zero has the solution zero, which costs
    no product.

    :param int max_iter: largest number of iterations. Default: 100.
    :param float rtol: tolerance on :math:`\|b - A v\| / \|b\|`. Default: ``1e-4``.
    :param float atol: tolerance on :math:`\|b - A v\|`. Default: 0.
    :raises ValueError: if an argument is out of its range.
    """

    @abstractmethod
    def run(self, operator: LinearOperator, rhs: Tensor) -> tuple[Tensor, Report]:
        r"""
        Solve the systems.

        :param LinearOperator operator: :math:`A`.
        :param torch.Tensor rhs: :math:`b`, of shape :math:`(B, n)`.
        :return: (tuple) :math:`v`, of shape :math:`(B, n)`, and the report.
        """


class LinearMonitor:
    r"""
    Residuals and status of each sample of a linear solve.

    :param Solver solver: the solver, for its tolerances.
    :param torch.Tensor rhs: the right side :math:`b`, of shape :math:`(B, n)`.
    :param LinearOperator operator: :math:`A`.
    """

    def __init__(self, solver: Solver, rhs: Tensor, operator: LinearOperator):
        self.solver = solver
        self.operator = operator
        self.processes = operator.processes
        self.rhs_norm = torch.linalg.vector_norm(rhs, dim=1, dtype=torch.float64)
        self.absolute = self.rhs_norm
        self.floor = _FLOOR * torch.finfo(rhs.dtype).eps
        batch, device = rhs.shape[0], rhs.device
        self.status = torch.full((batch,), int(Status.MAX_ITER), device=device)
        self.active = torch.ones(batch, dtype=torch.bool, device=device)
        self.iterations = torch.zeros(batch, dtype=torch.long, device=device)
        self.evaluations = torch.zeros(batch, dtype=torch.long, device=device)
        self.history: list[Tensor] = []
        self._seen_stopped = False
        self._schedule = None if device.type == "cpu" else LookSchedule()
        self.stop(self.rhs_norm == 0, Status.CONVERGED)
        self.stop(~torch.isfinite(self.rhs_norm), Status.NONFINITE)

    def observe(self, absolute: Tensor) -> None:
        r"""
        Record one iteration, and stop the samples that meet a tolerance.

        :param torch.Tensor absolute: :math:`\|b - A v\|` after the iteration, of shape
            :math:`(B,)`.
        """
        self.iterations += self.active
        # The recursive estimate falls further than the true residual can.
        floor = self.floor * self.rhs_norm
        absolute = torch.where(absolute > 0, absolute.maximum(floor), absolute)
        self.absolute = torch.where(self.active, absolute, self.absolute)
        self.history.append(torch.where(self.active, absolute, torch.nan))
        self.stop(absolute == 0, Status.CONVERGED)
        if self.solver.has_tolerance:
            relative = absolute / self.rhs_norm
            met = (relative <= self.solver.rtol) | (absolute <= self.solver.atol)
            self.stop(met, Status.CONVERGED)

    def count(self, products: int | Tensor = 1) -> None:
        """Count products with the operator, for the samples that still run."""
        self.evaluations += self.active * products

    def stop(self, where: Tensor, status: Status) -> None:
        """Stop some samples; a sample that has stopped keeps its status."""
        where = where & self.active
        self.status = torch.where(where, int(status), self.status)
        self.active = self.active & ~where

    def is_running(self) -> bool:
        """Return whether a sample is still active. Processes that cooperate agree on
        the status of every sample, so that all leave their loops together. On an
        accelerator the host looks as :class:`LookSchedule` says, and assumes that
        samples run meanwhile; products with their zeros change nothing."""
        self._agree()
        if self._schedule is None:
            return self._leave_out(self.active.tolist())
        made = len(self.history)
        if self._seen_stopped or not self._schedule.is_due(made):
            return not self._seen_stopped
        rows = torch.stack([self._ratios(), self.active.double()])
        ratios, active = rows.tolist()
        running = [flag == 1 for flag in active]
        self._schedule.plan(made, ratios, running)
        self._seen_stopped = not any(running)
        return self._leave_out(running)

    def _leave_out(self, running: list[bool]) -> bool:
        """Tell the operator which samples still run, and return whether one does."""
        if self.operator.leave_out is not None:
            self.operator.leave_out(running)
        return any(running)

    def _agree(self) -> None:
        if self.processes.cooperate:
            code = self.processes.agree(2 * self.status + self.active)
            self.status, self.active = code // 2, code % 2 == 1

    def _ratios(self) -> Tensor:
        """Return the residual of each sample over the tolerance that it is to meet."""
        tolerance = (self.solver.rtol * self.rhs_norm).clamp_min(self.solver.atol)
        return self.absolute / tolerance

    def report(self) -> Report:
        """Return the report of the solve."""
        self._agree()  # the last iteration may have changed the status
        if self.solver.has_fixed_budget:
            self.stop(self.active, Status.COMPLETED)
        scale = torch.where(self.rhs_norm > 0, self.rhs_norm, 1.0)
        batch = len(scale)
        absolute_history = (
            torch.stack(self.history) if self.history else scale.new_zeros(0, batch)
        )
        return Report(
            status=tuple(Status(code) for code in self.status.tolist()),
            residual=self.absolute / scale,
            absolute_residual=self.absolute,
            iterations=self.iterations,
            evaluations=self.evaluations,
            history=absolute_history / scale,
            absolute_history=absolute_history,
        )


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner products of the rows, in float64, of shape (B, 1)."""
    return (a.double() * b.double()).sum(dim=1, keepdim=True)
