"""The residuals and the statuses of the samples of a solve."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..solution import Status
from .solver import Solver

Numbers: TypeAlias = Any
"""An array with one entry for each sample. It is an array of numpy if the states are in
the memory of the host, where an operation of torch on a few numbers takes several times
as long. For the states of an accelerator it is a tensor there, so that the host does
not wait for the numbers. The same code computes with both."""

_RUNAWAY = 1e3  # growth of the residual at which an iteration stops as DIVERGED
_GROWTH = 10.0  # growth of the residual over the whole solve that is DIVERGED
# A residual is the difference of two values of the step. If their errors are
# independent, the error of the residual is sqrt(2) times as large.
_NOISE = 1.5
# A residual that does not fall to this fraction within so many evaluations may have
# reached the noise. If it has not, the next comparison takes twice the patience.
_FALL = 0.9
_PATIENCE = 3


class SampleRecords:
    r"""
    Residuals and status of each sample, which stops when it has converged or failed.

    :param Solver solver: the solver, for its tolerances.
    :param torch.Tensor x0: packed initial state, of shape :math:`(B, n)`, for its batch
        size and device.
    :param bool keep_best: whether the solve returns the best iterate, not the last.
    :param float growth: largest residual of a proposal relative to the best one.
    :param float rate: certified contraction rate of the step, or ``None``. Proposals
        that contract less are rejected, and a plain step that contracts less refutes
        the rate.
    :param float rounding: relative residual below which residuals may grow by rounding.
    :param float underflow: residual below which numbers may have lost digits, because
        they are subnormal.
    :param bool watches_noise: whether residuals that have stopped falling are to be
        compared with the noise of the step, see :meth:`compare_with_noise`.
    """

    def __init__(
        self,
        solver: Solver,
        x0: Tensor,
        keep_best: bool,
        growth: float,
        rate: float | None,
        rounding: float,
        underflow: float,
        watches_noise: bool,
    ):
        self.solver = solver
        self.keep_best = keep_best
        self.growth = growth
        self.rate = rate
        self.rounding = rounding
        self.underflow = underflow
        self.watches_noise = watches_noise and solver.has_tolerance
        self.on_host = x0.device.type == "cpu"
        self.arrays: Any = np if self.on_host else torch
        zeros = self.of(torch.zeros(len(x0), dtype=torch.float64, device=x0.device))
        counts = self.of(torch.zeros(len(x0), dtype=torch.long, device=x0.device))
        self.active = zeros == 0
        # Known on the host only. It saves a dozen operations in the common case.
        self.all_active = self.on_host
        self.status = counts + int(Status.MAX_ITER)
        self.first = zeros
        self.size = zeros
        self.operands = zeros
        self.last = self.smallest = zeros + math.inf
        self.residual = self.absolute = zeros + math.inf
        self.noise = zeros + math.nan
        self.stale = self.iterations = self.measurements = counts
        self.patience = counts + _PATIENCE
        self.history: list[Numbers] = []
        self.absolute_history: list[Numbers] = []

    def of(self, tensor: Tensor) -> Numbers:
        """Return a tensor of shape (..., B) as an array of numbers."""
        if not self.on_host:
            return tensor
        if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            return np.array(tensor.tolist())  # it has no memory of its own
        return tensor.numpy()

    def tensor(self, numbers: Numbers) -> Tensor:
        """Return an array as a tensor on the device of the states."""
        return torch.from_numpy(numbers) if self.on_host else numbers

    def table(self, rows: list[Numbers]) -> Tensor:
        """Return arrays as the rows of a tensor on the device of the states."""
        return self.tensor(self.arrays.stack(rows))

    def observe(
        self,
        absolute: Numbers,
        size: Numbers,
        output_is_finite: Numbers | None = None,
        in_domain: Numbers | None = None,
        proposed: Numbers | None = None,
    ) -> tuple[Numbers | None, Numbers | None]:
        r"""
        Record one evaluation of the step.

        :param absolute: :math:`\|f(x) - x\|`.
        :param size: :math:`\|f(x)\|`.
        :param output_is_finite: where the output of the step is finite; ``None`` for a
            step without an output.
        :param in_domain: where the value is in the domain of the step; ``None`` if it
            is everywhere.
        :param proposed: where :math:`x` was an accelerated proposal; a bad value then
            rejects the proposal and does not stop the sample. ``None`` if nowhere.
        :return: (tuple) where this evaluation is the one to return so far, ``None`` for
            everywhere; and where the proposal is rejected, ``None`` for nowhere.
        """
        # Samples that have stopped may hold NaN, and infinite residuals divide.
        with np.errstate(all="ignore"):
            finite = self.arrays.isfinite(absolute + size)
            good = _both(_both(finite, output_is_finite), in_domain)
            outside = None if in_domain is None else finite & ~in_domain
            if not self.history:
                self.first = self._choose(good, absolute, self.first)
            scale = self.arrays.maximum(size, self.first)
            nonzero = self._mask(absolute != 0)
            relative = absolute / self._choose(nonzero, scale, 1.0)
            self._append(relative, absolute)
            good, rejected = self._stop_bad(good, outside, proposed)
            if self.watches_noise:
                fell = _both(good, absolute < _FALL * self.smallest)
                self.smallest = self._choose(fell, absolute, self.smallest)
                stale = self.stale + (1 if good is None else good)
                self.stale = self._choose(fell, 0, stale)
                self.patience = self._choose(fell, _PATIENCE, self.patience)
            most = (self.growth if self.rate is None else self.rate) * self.absolute
            chosen = good
            if self.keep_best:
                chosen = _both(good, absolute < self.absolute)
            met = None
            if self.solver.has_tolerance:
                met = relative <= self.solver.rtol
                if self.solver.atol:
                    met = met | (absolute <= self.solver.atol)
                met = _both(good, met)
                chosen = chosen if chosen is None else self._mask(chosen | met)
            refuted = None
            if self.rate is not None:
                refuted = _both(good, self._refutes_rate(absolute, size, most))
            # A rejected proposal does not tell whether the step diverges.
            counts = good
            if proposed is not None:
                worse = proposed & (absolute > most)
                worse = worse if good is None else worse & good
                worse = worse if met is None else worse & ~met
                if self._any(worse):
                    rejected = worse if rejected is None else rejected | worse
                    counts = _both(good, ~worse)
                refuted = None if refuted is None else refuted & ~proposed
            self.last = self._choose(counts, absolute, self.last)
            self.size = self._choose(good, size, self.size)
            self.residual = self._choose(chosen, relative, self.residual)
            self.absolute = self._choose(chosen, absolute, self.absolute)
            if self.rate is not None:
                operands = self._size_of_operands(absolute, size)
                self.operands = self._choose(chosen, operands, self.operands)
            for ended, status in (
                (refuted, Status.REFUTED),
                (met, Status.CONVERGED),
                (self._runaway(absolute, good), Status.DIVERGED),
            ):
                self._end(ended, status)
        return chosen, rejected

    def finish(self, size: Numbers) -> None:
        r"""
        Set the status of the samples that are still running at the end of the solve.

        :param size: norm of the value that the solve returns.
        """
        running = self.active
        smallest = self.arrays.maximum(_GROWTH * self.first, self.rounding * size)
        self._end(self.last > smallest, Status.DIVERGED)
        if self.solver.has_fixed_budget:
            self._end(self.active, Status.COMPLETED)
        self.active = running

    @property
    def ratios(self) -> Numbers:
        """The last residual of each sample over the tolerance that it is to meet."""
        ratios = [
            last / tolerance
            for last, tolerance in (
                (self.history[-1], self.solver.rtol),
                (self.absolute_history[-1], self.solver.atol),
            )
            if tolerance
        ]
        if len(ratios) == 2:
            return self.arrays.minimum(*ratios)
        return ratios[0] if ratios else self.history[-1] + math.inf

    @property
    def excluded(self) -> Numbers:
        """Where there is no value to differentiate: the sample is not finite, or all of
        its values were bad."""
        return (self.status == int(Status.NONFINITE)) | (self.absolute == math.inf)

    @property
    def may_be_noise(self) -> Numbers:
        """Where the residual has not fallen for some evaluations, so that the noise of
        the step should be measured."""
        return self.active & (self.stale >= self.patience)

    @property
    def was_measured(self) -> bool:
        """Whether the noise of the step was measured for a sample. On an accelerator
        the host does not look, and the answer is whether it may have been."""
        return self.watches_noise and self._any(self.measurements > 0)

    def compare_with_noise(self, noise: Numbers) -> None:
        r"""
        End samples as converged whose residual is at the noise of the step.

        The step also errs by a constant, below which the residual still falls, so that
        this is asked only of residuals that have stopped falling.

        :param noise: relative error of the value of the step.
        """
        where = self.may_be_noise
        self.noise = self.arrays.where(where, noise, self.noise)
        self.measurements = self.measurements + where
        self.patience = self.patience * (1 + where)
        at_noise = self.absolute <= _NOISE * noise * self.size
        self._end(where & at_noise, Status.CONVERGED)

    def _size_of_operands(self, absolute: Numbers, size: Numbers) -> Numbers:
        r"""
        Return the size of the numbers with which the step may compute at :math:`x`,
        :math:`\|f(x)\| + \|f(x) - x\| / (1 - \rho)`.

        A step rounds relative to its operands, which may be larger than its value:
        :math:`\rho (x - x^*) + x^*` is 0 somewhere. The number is at least as large as
        :math:`\|x\|`, as the fixed point, because :math:`\|x - x^*\| \leq \|f(x) - x\|
        / (1 - \rho)`, and as the constant term of an affine step divided by 2.
        """
        return size + absolute / (1 - (self.rate or 0.0))

    def _refutes_rate(self, absolute: Numbers, size: Numbers, most: Numbers) -> Numbers:
        """Where the residual fell less than a plain step must make it fall, by more
        than rounding."""
        operands = self._size_of_operands(absolute, size)
        largest = self.arrays.maximum(operands, self.operands)
        return absolute > most + self.rounding * largest + self.underflow

    def _runaway(self, absolute: Numbers, good: Numbers | None) -> Numbers | None:
        """Where the residual of an iteration has grown so much that it stops."""
        if self.keep_best or self.solver.has_fixed_budget:
            return None
        return _both(good, absolute > _RUNAWAY * self.first)

    def _append(self, relative: Numbers, absolute: Numbers) -> None:
        """Append to the histories; NaN for samples that have stopped."""
        self.iterations = self.iterations + self.active
        if not self.all_active:
            relative = self.arrays.where(self.active, relative, math.nan)
            absolute = self.arrays.where(self.active, absolute, math.nan)
        self.history.append(relative)
        self.absolute_history.append(absolute)

    def _stop_bad(
        self, good: Numbers, outside: Numbers | None, proposed: Numbers | None
    ) -> tuple[Numbers | None, Numbers | None]:
        """Stop samples whose value is bad. Return where the value of a running sample
        is good, ``None`` for everywhere, and which proposals are bad."""
        if self.all_active and self._mask(good) is None:
            return None, None
        bad = self.active & ~good
        rejected = None if proposed is None else bad & proposed
        failed = bad if proposed is None else bad & ~proposed
        if outside is not None:
            self._end(failed & outside, Status.DIVERGED)
        self._end(failed, Status.NONFINITE)
        return good & self.active, rejected

    def _choose(self, where: Numbers | None, new: Any, old: Any) -> Numbers:
        return new if where is None else self.arrays.where(where, new, old)

    def _any(self, where: Numbers) -> bool:
        """Whether a condition holds somewhere. For the states of an accelerator the
        host does not look, and the answer is true."""
        # np.any takes seven times as long.
        return not self.on_host or bool(np.count_nonzero(where))

    def _mask(self, where: Numbers) -> Numbers | None:
        """Return a condition, or ``None`` if the host sees that it holds everywhere."""
        if self.on_host and np.count_nonzero(where) == len(where):
            return None
        return where

    def _end(self, where: Numbers | None, status: Status) -> None:
        """Stop samples; one that has stopped keeps its status."""
        if where is None or not self._any(where):
            return
        where = where & self.active
        self.status = self.arrays.where(where, int(status), self.status)
        self.active = self.active & ~where
        self.all_active = False


def _both(a: Numbers | None, b: Numbers | None) -> Numbers | None:
    """Where both conditions hold; ``None`` stands for everywhere."""
    if a is None or b is None:
        return b if a is None else a
    return a & b
