"""The book that a fixed-point solve keeps: residuals, statuses and what to return."""

from __future__ import annotations

import torch
from torch import Tensor

from ..solution import LowRankInverse, Report
from ..status import Status
from .base import Solver

_RUNAWAY = 1e3  # growth of the residual at which an iteration is given up
_GROWTH = 10.0  # growth over the whole solve that is called divergence
_ROUNDING = 100.0  # units of rounding below which a residual is noise, and no growth


class Monitor:
    r"""
    What a fixed-point solve knows of each sample, from the evaluations it is shown.

    Keeps for each sample the iterate to return (the last or the best), its value
    and output, and freezes the sample when it has converged or failed, so that what
    happens to its batch-mates later cannot change it.

    :param Solver solver: has the tolerances.
    :param torch.Tensor x0: packed initial state, of shape :math:`(B, n)`.
    :param bool keep_best: whether to return the best iterate, else the last.
    """

    def __init__(self, solver: Solver, x0: Tensor, *, keep_best: bool):
        batch = x0.shape[0]
        self.solver = solver
        self.keep_best = keep_best
        self.x = x0
        self.value = x0
        self.output: Tensor | None = None
        self.inverse_jacobian: LowRankInverse | None = None
        self.active = torch.ones(batch, dtype=torch.bool, device=x0.device)
        self.status = torch.full((batch,), int(Status.MAX_ITER), device=x0.device)
        unknown = x0.new_full((batch,), torch.inf, dtype=torch.float64)
        self.residual = self.absolute = self.last = unknown
        self.first: Tensor | None = None
        self.deferred = False
        self.unrecorded = torch.zeros_like(self.active)
        self.iterations = torch.zeros(batch, dtype=torch.long, device=x0.device)
        self.history: list[Tensor] = []
        self.absolute_history: list[Tensor] = []

    def observe(
        self,
        x: Tensor,
        value: Tensor,
        output: Tensor | None,
        inside: Tensor,
        proposed: Tensor | None = None,
    ) -> Tensor:
        r"""
        Take one evaluation into account.

        :param torch.Tensor x: where the step was evaluated, of shape :math:`(B, n)`.
        :param torch.Tensor value: its value there.
        :param torch.Tensor output: its output there, if it has one.
        :param torch.Tensor inside: where the value is finite and in the step's domain.
        :param torch.Tensor proposed: where ``x`` was an accelerated proposal: a bad
            value is then no failure of the step.
        :return: where a proposal failed and the plain step should be taken instead.
        """
        with torch.no_grad():
            absolute = torch.linalg.vector_norm(value - x, dim=1, dtype=torch.float64)
            size = torch.linalg.vector_norm(value, dim=1, dtype=torch.float64)
        good = inside & torch.isfinite(absolute)
        if output is not None:
            good = good & torch.isfinite(output.detach()).reshape(len(x), -1).all(1)
        if self.first is None:
            self.first = torch.where(good, absolute, 0.0)
        scale = torch.maximum(size, self.first)
        relative = torch.where(absolute == 0, 0.0, absolute / scale)

        seen = torch.where(self.active, 1.0, torch.nan)
        self.history.append(relative * seen)
        self.absolute_history.append(absolute * seen)
        self.iterations += self.active

        usable = self.active & good
        met = usable & self._meets_tolerance(relative, absolute)
        kept = usable & (absolute < self.absolute) | met if self.keep_best else usable
        self._keep(kept, x, value, output)
        self.residual = torch.where(kept, relative, self.residual)
        self.absolute = torch.where(kept, absolute, self.absolute)
        self.last = torch.where(usable, absolute, self.last)

        rejected = self.active & ~good
        if self.deferred:
            # What was recorded is not what is kept.
            self.unrecorded = rejected
        if proposed is not None:
            # Ten times the best residual: the model behind the proposal is wrong.
            worse = usable & ~met & (absolute > _GROWTH * self.absolute)
            retry = proposed & (rejected | worse)
            rejected = rejected & ~retry
        else:
            retry = torch.zeros_like(rejected)
        broken = rejected & ~inside & torch.isfinite(size) & torch.isfinite(absolute)
        runaway = torch.zeros_like(met)
        if not (self.keep_best or self.solver.has_fixed_budget):
            runaway = usable & (absolute > _RUNAWAY * self.first)
        for where, status in (
            (met, Status.CONVERGED),
            (runaway | broken, Status.DIVERGED),
            (rejected & ~broken, Status.NONFINITE),
        ):
            self.status = torch.where(where, int(status), self.status)
            self.active = self.active & ~where
        return retry

    def defer(self, x: Tensor) -> None:
        """Make ``x`` the place where the caller evaluates and records the step."""
        self.x = choose(self.active, x, self.x)
        self.deferred = True

    def finish(self) -> None:
        """Say how the samples ended that were still running."""
        ended = Status.COMPLETED if self.solver.has_fixed_budget else Status.MAX_ITER
        self.status = torch.where(self.active, int(ended), self.status)
        assert self.first is not None
        size = torch.linalg.vector_norm(self.value.detach(), dim=1, dtype=torch.float64)
        noise = _ROUNDING * torch.finfo(self.value.dtype).eps * size
        grown = self.active & (self.last > _GROWTH * self.first) & (self.last > noise)
        self.status = torch.where(grown, int(Status.DIVERGED), self.status)

    def report(self, extra_evaluations: int = 0) -> Report:
        r"""
        :param int extra_evaluations: evaluations besides those observed.
        :return: the report of the solve.
        """
        return Report(
            status=tuple(Status(code) for code in self.status.tolist()),
            residual=self.residual,
            absolute_residual=self.absolute,
            iterations=self.iterations,
            evaluations=self.iterations + extra_evaluations,
            history=torch.stack(self.history),
            absolute_history=torch.stack(self.absolute_history),
        )

    @property
    def excluded(self) -> Tensor:
        """Where the sample turned non-finite, no value of it could be kept, or the one
        that was recorded was not: it must add nothing to a gradient."""
        nonfinite = self.status == int(Status.NONFINITE)
        return nonfinite | torch.isinf(self.absolute) | self.unrecorded

    def _meets_tolerance(self, relative: Tensor, absolute: Tensor) -> Tensor:
        if not self.solver.has_tolerance:
            return torch.zeros_like(self.active)
        return (relative <= self.solver.rtol) | (absolute <= self.solver.atol)

    def _keep(
        self, where: Tensor, x: Tensor, value: Tensor, output: Tensor | None
    ) -> None:
        self.x = choose(where, x, self.x)
        self.value = choose(where, value, self.value)
        if output is not None:
            previous = torch.zeros_like(output) if self.output is None else self.output
            self.output = choose(where, output, previous)


def choose(where: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """``new`` in the samples where it is asked for, ``old`` in the others."""
    # Most iterations keep every sample. On an accelerator asking would wait for it.
    if where.device.type == "cpu" and bool(where.all()):
        return new
    return torch.where(where.reshape(-1, *[1] * (new.ndim - 1)), new, old)
