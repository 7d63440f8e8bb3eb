"""The residuals and the status of one sample of a solve."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..solution import Status
from .solver import Solver

_RUNAWAY = 1e3  # growth of the residual at which an iteration stops as DIVERGED
_GROWTH = 10.0  # growth of the residual over the whole solve that is DIVERGED
# A residual is the difference of two values of the step. If their errors are
# independent, the error of the residual is sqrt(2) times as large.
_NOISE = 1.5
# A residual that does not fall to this fraction within as many evaluations as these may
# have reached the noise.
_FALL = 0.9
_PATIENCE = (3, 6, 12, 24, 48, 96)


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
    :param float rounding: relative residual below which residuals may grow by rounding.
    :param float underflow: residual below which numbers may have lost digits, because
        they are subnormal. Default: 0.
    """

    solver: Solver
    keep_best: bool
    rate: float | None
    rounding: float
    underflow: float = 0.0
    active: bool = True
    status: Status = Status.MAX_ITER
    first: float = 0.0
    last: float = math.inf
    size: float = 0.0
    smallest: float = math.inf
    stale: int = 0
    noise: float = math.nan
    measurements: int = 0
    operands: float = 0.0
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

        self.size = size
        self.stale += 1
        if absolute < _FALL * self.smallest:
            self.stale, self.smallest = 0, absolute
        met = self.solver.has_tolerance and (
            relative <= self.solver.rtol or absolute <= self.solver.atol
        )
        chosen = met or not self.keep_best or absolute < self.absolute
        # With more than ten times the best residual, the model behind the proposal
        # is wrong.
        most = (_GROWTH if self.rate is None else self.rate) * self.absolute
        rejected = proposed and not met and absolute > most
        if not rejected:  # a rejected proposal does not tell whether the step diverges
            self.last = absolute
        operands = self._size_of_operands(absolute, size)
        refuted = not proposed and self._refutes_rate(absolute, operands, most)
        if chosen:
            self.residual, self.absolute = relative, absolute
            self.operands = operands
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
        if self.last > max(_GROWTH * self.first, self.rounding * size):
            self.status = Status.DIVERGED
        elif self.solver.has_fixed_budget:
            self.status = Status.COMPLETED

    def _ran_away(self, absolute: float) -> bool:
        if self.keep_best or self.solver.has_fixed_budget:
            return False
        return absolute > _RUNAWAY * self.first

    def _size_of_operands(self, absolute: float, size: float) -> float:
        r"""
        Return the size of the numbers with which the step may compute at :math:`x`,
        :math:`\|f(x)\| + \|f(x) - x\| / (1 - \rho)`.

        A step rounds relative to its operands, which may be larger than its value:
        :math:`\rho (x - x^*) + x^*` is 0 somewhere. The number is at least as large as
        :math:`\|x\|`, as the fixed point, because :math:`\|x - x^*\| \leq \|f(x) - x\|
        / (1 - \rho)`, and as the constant term of an affine step divided by 2.
        """
        return size + absolute / (1 - (self.rate or 0.0))

    def _refutes_rate(self, absolute: float, operands: float, most: float) -> bool:
        """Whether a plain step contracted less than the rate, by more than rounding."""
        if self.rate is None:
            return False
        slack = self.rounding * max(operands, self.operands) + self.underflow
        return absolute > most + slack

    @property
    def may_be_noise(self) -> bool:
        """Whether the residual has not fallen for some evaluations, so that the noise
        of the step should be measured."""
        return self.active and self.solver.has_tolerance and self.stale in _PATIENCE

    def compare_with_noise(self, noise: float) -> None:
        r"""
        End the sample as converged if its residual is at the noise of the step.

        The step also errs by a constant, below which the residual still falls, so that
        this is asked only of a residual that has stopped falling.

        :param float noise: relative error of the value of the step.
        """
        self.noise = noise
        self.measurements += 1
        if self.absolute <= _NOISE * noise * self.size:
            self._end(Status.CONVERGED)

    def _end(self, status: Status) -> None:
        self.status = status
        self.active = False
