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
# A residual that does not fall to this fraction within as many evaluations as these may
# have reached the noise.
_FALL = 0.9
_PATIENCE = (3, 6, 12, 24, 48, 96)


class SampleRecords:
    r"""
    Residuals and status of each sample, which stops when it has converged or failed.

    :param Solver solver: the solver, for its tolerances.
    :param torch.Tensor x0: packed initial state, of shape :math:`(B, n)`, for its batch
        size and device.
    :param bool keep_best: whether the solve returns the best iterate, not the last.
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
        rate: float | None,
        rounding: float,
        underflow: float,
        watches_noise: bool,
    ):
        self.solver = solver
        self.keep_best = keep_best
        self.rate = rate
        self.rounding = rounding
        self.underflow = underflow
        self.watches_noise = watches_noise and solver.has_tolerance
        self.device = x0.device
        self.on_host = x0.device.type == "cpu"
        self.arrays: Any = np if self.on_host else torch
        zeros = self.of(torch.zeros(len(x0), dtype=torch.float64, device=x0.device))
        counts = self.of(torch.zeros(len(x0), dtype=torch.long, device=x0.device))
        self.active = zeros == 0
        self.status = counts + int(Status.MAX_ITER)
        self.first = zeros
        self.size = zeros
        self.operands = zeros
        self.last = self.smallest = zeros + math.inf
        self.residual = self.absolute = zeros + math.inf
        self.noise = zeros + math.nan
        self.stale = self.iterations = self.measurements = counts
        self.history: list[Numbers] = []
        self.absolute_history: list[Numbers] = []

    def of(self, tensor: Tensor) -> Numbers:
        """Return a tensor of shape (..., B) as an array of numbers."""
        # Not tensor.numpy(): the tensors of a transform of torch.func have no memory.
        return np.array(tensor.tolist()) if self.on_host else tensor

    def tensor(self, numbers: Numbers) -> Tensor:
        """Return an array as a tensor on the device of the states."""
        return torch.from_numpy(numbers) if self.on_host else numbers

    def observe(
        self,
        absolute: Numbers,
        size: Numbers,
        output_is_finite: Numbers | None = None,
        in_domain: Numbers | None = None,
        proposed: Numbers | None = None,
    ) -> tuple[Numbers, Numbers]:
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
        :return: (tuple) where this evaluation is the one to return so far, and where
            the proposal is rejected.
        """
        where = self.arrays.where
        # Samples that have stopped may hold NaN, and infinite residuals divide.
        with np.errstate(all="ignore"):
            good = self.arrays.isfinite(absolute + size)
            outside = None if in_domain is None else good & ~in_domain & self.active
            for flag in (output_is_finite, in_domain):
                good = good if flag is None else good & flag
            if not self.history:
                self.first = where(good, absolute, self.first)
            scale = self.arrays.maximum(size, self.first)
            relative = absolute / where(absolute == 0, 1.0, scale)
            self.iterations = self.iterations + self.active
            self.history.append(self._if_active(relative))
            self.absolute_history.append(self._if_active(absolute))

            bad = self.active & ~good
            rejected = bad & False if proposed is None else bad & proposed
            if self._any(bad):
                failed = bad & ~rejected
                if outside is not None:
                    self._end(failed & outside, Status.DIVERGED)
                self._end(failed, Status.NONFINITE)
                good = good & self.active
            elif self._any(~self.active):
                good = good & self.active
            if self.watches_noise:
                fell = good & (absolute < _FALL * self.smallest)
                self.smallest = where(fell, absolute, self.smallest)
                self.stale = where(fell, 0, self.stale + good)
            # With more than ten times the best residual, the model behind the proposal
            # is wrong.
            most = (_GROWTH if self.rate is None else self.rate) * self.absolute
            chosen = good & (absolute < self.absolute) if self.keep_best else good
            met = None
            if self.solver.has_tolerance:
                met = relative <= self.solver.rtol
                if self.solver.atol:
                    met = met | (absolute <= self.solver.atol)
                met = met & good
                chosen = chosen | met
            refuted = None
            if self.rate is not None:
                refuted = good & self._refutes_rate(absolute, size, most)
            # A rejected proposal does not tell whether the step diverges.
            counts = good
            if proposed is not None:
                worse = good & proposed & (absolute > most)
                worse = worse if met is None else worse & ~met
                rejected, counts = rejected | worse, good & ~worse
                refuted = None if refuted is None else refuted & ~proposed
            self.last = where(counts, absolute, self.last)
            self.size = where(good, size, self.size)
            self.residual = where(chosen, relative, self.residual)
            self.absolute = where(chosen, absolute, self.absolute)
            if self.rate is not None:
                operands = self._size_of_operands(absolute, size)
                self.operands = where(chosen, operands, self.operands)
            for ended, status in (
                (refuted, Status.REFUTED),
                (met, Status.CONVERGED),
                (self._runaway(absolute, good), Status.DIVERGED),
            ):
                if ended is not None and self._any(ended):
                    self._end(ended, status)
        return chosen, rejected

    def finish(self, size: Numbers) -> None:
        r"""
        Set the status of the samples that are still running at the end of the solve.

        :param size: norm of the value that the solve returns.
        """
        running = self.active
        smallest = self.arrays.maximum(_GROWTH * self.first, self.rounding * size)
        self._end(running & (self.last > smallest), Status.DIVERGED)
        if self.solver.has_fixed_budget:
            self._end(self.active, Status.COMPLETED)
        self.active = running

    @property
    def excluded(self) -> Numbers:
        """Where there is no value to differentiate: the sample is not finite, or all of
        its values were bad."""
        return (self.status == int(Status.NONFINITE)) | (self.absolute == math.inf)

    @property
    def may_be_noise(self) -> Numbers:
        """Where the residual has not fallen for some evaluations, so that the noise of
        the step should be measured."""
        stale = self.active & False
        for patience in _PATIENCE:
            stale = stale | (self.stale == patience)
        return self.active & stale

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

    def _runaway(self, absolute: Numbers, good: Numbers) -> Numbers | None:
        """Where the residual of an iteration has grown so much that it stops."""
        if self.keep_best or self.solver.has_fixed_budget:
            return None
        return good & (absolute > _RUNAWAY * self.first)

    def _any(self, where: Numbers) -> bool:
        """Whether something is true somewhere. On an accelerator the host does not look
        and goes on as if it were."""
        return not self.on_host or bool(where.any())

    def _if_active(self, numbers: Numbers) -> Numbers:
        """Return the numbers of the samples that run, and NaN for the others."""
        if not self._any(~self.active):
            return numbers
        return self.arrays.where(self.active, numbers, math.nan)

    def _end(self, where: Numbers, status: Status) -> None:
        """Stop samples; one that has stopped keeps its status."""
        where = where & self.active
        self.status = self.arrays.where(where, int(status), self.status)
        self.active = self.active & ~where
