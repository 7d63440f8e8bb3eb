"""What the solvers of linear systems share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..solution import Report, Status
from .solver import Solver

_FLOOR = 4.0  # units of rounding below which no residual is claimed


@dataclass(frozen=True)
class LinearOperator:
    r"""
    A batch of square matrices :math:`A`, known by their products.

    :param Callable apply: :math:`v \mapsto A v` on matrices of shape :math:`(B, n)`.
    :param Callable adjoint: :math:`v \mapsto A^\top v`, likewise.
    """

    apply: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class LinearSolver(Solver, ABC):
    r"""
    Base of the solvers of :math:`A v = b`, for each sample on its own and from
    :math:`v = 0`. The relative residual is :math:`\|b - A v\| / \|b\|`; a zero right
    side is solved by zero, without a product. It is that of the method's
    own recursion, and is never said to be less than four units of rounding: a tolerance
    below that ends as ``MAX_ITER``.
    """

    @abstractmethod
    def run(self, operator: LinearOperator, rhs: Tensor) -> tuple[Tensor, Report]:
        r"""
        :param LinearOperator operator: :math:`A`.
        :param torch.Tensor rhs: :math:`b`, of shape :math:`(B, n)`.
        :return: :math:`v`, and the report.
        """


class LinearMonitor:
    r"""
    Residuals and statuses of a linear solve, sample by sample.

    :param Solver solver: has the tolerances.
    :param torch.Tensor rhs: the right side, of shape :math:`(B, n)`.
    """

    def __init__(self, solver: Solver, rhs: Tensor):
        self.solver = solver
        self.rhs_norm = torch.linalg.vector_norm(rhs, dim=1, dtype=torch.float64)
        self.absolute = self.rhs_norm
        self.floor = _FLOOR * torch.finfo(rhs.dtype).eps
        batch, device = rhs.shape[0], rhs.device
        self.status = torch.full((batch,), int(Status.MAX_ITER), device=device)
        self.active = torch.ones(batch, dtype=torch.bool, device=device)
        self.iterations = torch.zeros(batch, dtype=torch.long, device=device)
        self.evaluations = torch.zeros(batch, dtype=torch.long, device=device)
        self.history: list[Tensor] = []
        self.stop(self.rhs_norm == 0, Status.CONVERGED)
        self.stop(~torch.isfinite(self.rhs_norm), Status.NONFINITE)

    def observe(self, absolute: Tensor) -> None:
        r"""
        :param torch.Tensor absolute: residual norms after an iteration.
        """
        self.iterations += self.active
        # The recursions go on falling where the true residual cannot.
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
        """Products that the running samples have just taken part in."""
        self.evaluations += self.active * products

    def stop(self, where: Tensor, status: Status) -> None:
        """Freeze running samples."""
        where = where & self.active
        self.status = torch.where(where, int(status), self.status)
        self.active = self.active & ~where

    def report(self) -> Report:
        """Close the book."""
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
    """Inner products of the rows, in float64, of shape (B, 1)."""
    return (a.double() * b.double()).sum(dim=1, keepdim=True)
