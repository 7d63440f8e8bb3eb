"""The residuals and the status of one sample of a solve."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..solution import Status
from .solver import Solver

_RUNAWAY = 1e3  # growth of the residual at which an iteration stops as DIVERGED
_GROWTH = 10.0  # growth of the residual over the whole solve that is DIVERGED
_ROUNDING = 100.0  # units of rounding below which a residual is noise
# A residual is the difference of two values of the step. If their errors are
# independent, the error of the residual is sqrt(2) times as large.
_NOISE = 1.5
_PATIENCE = 5  # evaluations without a smaller residual that show that noise is reached


@dataclass
class SampleRecord:
    r"""
    Residuals and status of one sample, which stops when it has converged or failed.

    It holds Python numbers: for the batch sizes of imaging they are cheaper than a
    dozen operations on small tensors, and a GPU is synchronised only once per
    evaluation.

    :param Solver solver: the solver, for its tolerances.
    :param bool keep_best: whether the solve returns the best iterate, not the last.
    :param float rate: certified contraction rate of the step, or ``None``. Proposals
        that contract less are rejected, and a plain step that contracts less refutes
        the rate.
    :param float eps: unit of rounding of the dtype of the state.
    :param float noise: relative error of the values of the step, if it is larger than
        their rounding. A residual of at most 1.5 times this error, that five further
        evaluations did not reduce, meets any tolerance. Default: 0.
    """

    solver: Solver
    keep_best: bool
    rate: float | None
    eps: float
    noise: float = 0.0
    active: bool = True
    status: Status = Status.MAX_ITER
    first: float = 0.0
    last: float = math.inf
    smallest: float = math.inf
    stale: int = 0
    residual: float = math.inf
    absolute: float = math.inf
    history: list[float] = field(default_factory=list)
    absolute_history: list[float] = field(default_factory=list)

    def observe(
        self,
        absolute: float,
        size: float,
        output_is_finite: bool = True,
        in_domain: bool = True,
        proposed: bool = False,
    ) -> tuple[bool, bool]:
        r"""
        Record one evaluation of the step.

        :param float absolute: :math:`\|f(x) - x\|`.
        :param float size: :math:`\|f(x)\|`.
        :param bool output_is_finite: whether the output of the step is finite; true for
            a step without an output.
        :param bool in_domain: whether the value is in the domain of the step.
        :param bool proposed: whether :math:`x` was an accelerated proposal; a bad value
            then rejects the proposal and does not stop the sample.
        :return: (tuple) whether this evaluation is the one to return so far, and
            whether the proposal is rejected.
        """
        if not self.active:
            return False, False
        finite = math.isfinite(absolute) and math.isfinite(size)
        good = finite and output_is_finite and in_domain
        if not self.history and good:
            self.first = absolute
        scale = max(size, self.first)
        relative = absolute / scale if absolute else 0.0
        self.history.append(relative)
        self.absolute_history.append(absolute)
        if not good:
            if not proposed:
                left = finite and not in_domain
                self._end(Status.DIVERGED if left else Status.NONFINITE)
            return False, proposed

        met = self.solver.has_tolerance and (
            relative <= self.solver.rtol
            or absolute <= self.solver.atol
            or self._is_noise(absolute, size)
        )
        chosen = met or not self.keep_best or absolute < self.absolute
        # With more than ten times the best residual, the model behind the proposal
        # is wrong.
        most = (_GROWTH if self.rate is None else self.rate) * self.absolute
        rejected = proposed and not met and absolute > most
        if not rejected:  # a rejected proposal does not tell whether the step diverges
            self.last = absolute
        refuted = not proposed and self._refutes_rate(absolute, size, most)
        if chosen:
            self.residual, self.absolute = relative, absolute
        if refuted:
            self._end(Status.REFUTED)
        elif met:
            self._end(Status.CONVERGED)
        elif self._ran_away(absolute):
            self._end(Status.DIVERGED)
        return chosen, rejected

    def finish(self, size: float) -> None:
        r"""
        Set the status of a sample that is still running at the end of the solve.

        :param float size: norm of the value that the solve returns.
        """
        if not self.active:
            return
        if self.last > max(_GROWTH * self.first, self._rounding(size)):
            self.status = Status.DIVERGED
        elif self.solver.has_fixed_budget:
            self.status = Status.COMPLETED

    def _ran_away(self, absolute: float) -> bool:
        if self.keep_best or self.solver.has_fixed_budget:
            return False
        return absolute > _RUNAWAY * self.first

    def _refutes_rate(self, absolute: float, size: float, most: float) -> bool:
        """Whether a plain step contracted less than the rate, by more than rounding."""
        return self.rate is not None and absolute > most + self._rounding(size)

    def _is_noise(self, absolute: float, size: float) -> bool:
        """Whether the residual is at the noise of the step, and has stopped falling.
        The step errs in part by a constant, below which the residual still falls."""
        self.stale = 0 if absolute < self.smallest else self.stale + 1
        self.smallest = min(absolute, self.smallest)
        level = _NOISE * self.noise * size
        return absolute <= level and self.stale >= _PATIENCE

    def _rounding(self, size: float) -> float:
        return max(_ROUNDING * self.eps, 2 * _NOISE * self.noise) * size

    def _end(self, status: Status) -> None:
        self.status = status
        self.active = False
