"""What a solve knows of one sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..solution import Status
from .solver import Solver

_RUNAWAY = 1e3  # growth of the residual at which an iteration is given up
_GROWTH = 10.0  # growth over the whole solve that is called divergence
_ROUNDING = 100.0  # units of rounding below which a residual is noise, and no growth


@dataclass
class SampleRecord:
    r"""
    Residuals and status of one sample, which is frozen when it has converged or failed.

    Plain numbers: for the batches of imaging this costs less than a dozen operations
    on small tensors would, and an accelerator is waited for once an evaluation.

    :param Solver solver: has the tolerances.
    :param bool keep_best: whether the best iterate is returned, else the last.
    :param float rate: certified rate of the step, if it has one: proposals that do not
        contract as fast are rejected, and a plain step that does not refutes it.
    :param float eps: rounding of the dtype of the state.
    """

    solver: Solver
    keep_best: bool
    rate: float | None
    eps: float
    active: bool = True
    status: Status = Status.MAX_ITER
    first: float = 0.0
    last: float = math.inf
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
        Take one evaluation into account.

        :param float absolute: :math:`\|f(x) - x\|`.
        :param float size: :math:`\|f(x)\|`.
        :param bool output_is_finite: whether the output is, if there is one.
        :param bool in_domain: whether the value is in the domain of the step.
        :param bool proposed: whether :math:`x` was an accelerated proposal: a bad value
            is then no failure of the step.
        :return: whether this evaluation is the one to return so far, and whether the
            proposal failed and the plain step should be taken instead.
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
            relative <= self.solver.rtol or absolute <= self.solver.atol
        )
        kept = met or not self.keep_best or absolute < self.absolute
        # Ten times the best residual: the model behind the proposal is wrong.
        most = (_GROWTH if self.rate is None else self.rate) * self.absolute
        retry = proposed and not met and absolute > most
        if not retry:  # a rejected proposal says nothing of the step
            self.last = absolute
        refuted = not proposed and self._refutes_rate(absolute, size, most)
        if kept:
            self.residual, self.absolute = relative, absolute
        if refuted:
            self._end(Status.REFUTED)
        elif met:
            self._end(Status.CONVERGED)
        elif self._ran_away(absolute):
            self._end(Status.DIVERGED)
        return kept, retry

    def finish(self, size: float) -> None:
        r"""
        Say how the sample ended if it was still running.

        :param float size: norm of the value that was kept.
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
        """Whether a plain step has shown, beyond rounding, that the rate is wrong."""
        return self.rate is not None and absolute > most + self._rounding(size)

    def _rounding(self, size: float) -> float:
        return _ROUNDING * self.eps * size

    def _end(self, status: Status) -> None:
        self.status = status
        self.active = False
