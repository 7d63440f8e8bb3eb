"""The record of a fixed-point solve: residuals, statuses and the values to return."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import repeat

import torch
from torch import Tensor

from ..autocast import Autocast
from ..processes import ALONE, Processes
from ..solution import LowRankInverse, Report, Status
from ..step import PackedStep
from .sample_record import SampleRecord
from .solver import Solver

# Units of rounding of the state, or of autocast, below which a residual may be noise.
_STATE_ROUNDING = 100.0
_AUTOCAST_ROUNDING = 8.0


class Monitor:
    r"""
    Record of the evaluations of a fixed-point solve.

    For each sample it stores the iterate to return (the last or the best), its value
    and its output. When a sample has converged or failed it stops, and the later
    evaluations of the batch no longer change it.

    :param Solver solver: the solver, for its tolerances.
    :param torch.Tensor x0: packed initial state, of shape :math:`(B, n)`.
    :param bool keep_best: whether to return the best iterate, not the last.
    :param float rate: certified contraction rate of the step. Default: ``None``.
    :param Processes processes: the processes that evaluate the step together; the first
        decides for all. Default: this process alone.
    :param Autocast autocast: the setting of ``torch.autocast`` under which the step is
        evaluated. Default: ``None``, no autocast.
    """

    def __init__(
        self,
        solver: Solver,
        x0: Tensor,
        *,
        keep_best: bool,
        rate: float | None = None,
        processes: Processes = ALONE,
        autocast: Autocast | None = None,
    ):
        info = torch.finfo(x0.dtype)
        rounding, underflow = _STATE_ROUNDING * info.eps, info.tiny / info.eps
        if autocast is not None:
            rounding = max(rounding, _AUTOCAST_ROUNDING * autocast.eps)
        self.samples = [
            SampleRecord(solver, keep_best, rate, rounding, underflow)
            for _ in range(len(x0))
        ]
        self.processes = processes
        self.x = x0
        self.value = x0
        self.output: Tensor | None = None
        self.inverse_jacobian: LowRankInverse | None = None
        self.running = len(x0)
        self.active = torch.ones(len(x0), dtype=torch.bool, device=x0.device)
        self.deferred = False
        self.unrecorded = [False] * len(x0)

    def compare_with_noise(self, step: PackedStep, x: Tensor, value: Tensor) -> None:
        r"""
        Stop the samples whose residual has stopped falling at the noise of autocast.

        :param PackedStep step: the step, which measures its noise.
        :param torch.Tensor x: the last iterates, of shape :math:`(B, n)`.
        :param torch.Tensor value: their values, of shape :math:`(B, n)`.
        """
        if not any(sample.may_be_noise for sample in self.samples):
            return
        levels = self.processes.agree(step.noise(x, value)).tolist()
        for sample, level in zip(self.samples, levels, strict=True):
            if sample.may_be_noise:
                sample.compare_with_noise(level)
        self._count_running()

    def observe(
        self,
        x: Tensor,
        value: Tensor,
        output: Tensor | None = None,
        domain: Tensor | None = None,
        proposed: Tensor | None = None,
    ) -> Tensor | None:
        r"""
        Record one evaluation of the step.

        :param torch.Tensor x: the iterates, of shape :math:`(B, n)`.
        :param torch.Tensor value: the values, of shape :math:`(B, n)`.
        :param torch.Tensor output: the outputs, of shape :math:`(B, ...)`, or ``None``.
        :param torch.Tensor domain: which values are in the domain of the step, boolean
            of shape :math:`(B,)`; ``None`` if all are.
        :param torch.Tensor proposed: which iterates are accelerated proposals, boolean
            of shape :math:`(B,)`; ``None`` for a solver that is not accelerated.
        :return: (torch.Tensor) which proposals are rejected, boolean of shape
            :math:`(B,)`; ``None`` if ``proposed`` is.
        """
        before = [sample.active for sample in self.samples]
        numbers = _numbers(self.processes, x, value, output, domain, proposed)
        verdicts = [
            sample.observe(*of_sample)
            for sample, of_sample in zip(self.samples, numbers, strict=True)
        ]
        chosen = [choice for choice, _ in verdicts]
        self._store(chosen, x, value, output)
        if self.deferred:
            # The recorded evaluation is not the one that the solve returns.
            self.unrecorded = [
                was and not choice for was, choice in zip(before, chosen, strict=True)
            ]
        self._count_running()
        return (
            None
            if proposed is None
            else self._mask([rejected for _, rejected in verdicts])
        )

    def defer(self, x: Tensor) -> None:
        """Leave the evaluation at ``x`` to the caller, who records it."""
        self.x = choose(self.active, x, self.x)
        self.deferred = True

    def finish(self) -> None:
        """Set the status of the samples that are still running."""
        sizes = self.processes.agree(_norms(self.value)).tolist()
        for sample, size in zip(self.samples, sizes, strict=True):
            sample.finish(size)

    def report(self, extra_evaluations: int = 0) -> Report:
        r"""
        Return the report of the solve.

        :param int extra_evaluations: evaluations of the step that were not observed,
            to be added to the count. Default: 0.
        :return: (Report) the report.
        """
        iterations = torch.tensor(
            [len(sample.history) for sample in self.samples], device=self.x.device
        )
        measurements = torch.tensor(
            [sample.measurements for sample in self.samples], device=self.x.device
        )
        return Report(
            status=tuple(sample.status for sample in self.samples),
            residual=self._column([sample.residual for sample in self.samples]),
            absolute_residual=self._column(
                [sample.absolute for sample in self.samples]
            ),
            iterations=iterations,
            evaluations=iterations + extra_evaluations + measurements,
            history=self._table([sample.history for sample in self.samples]),
            absolute_history=self._table(
                [sample.absolute_history for sample in self.samples]
            ),
            noise=(
                self._column([sample.noise for sample in self.samples])
                if bool(measurements.any())
                else None
            ),
        )

    @property
    def excluded(self) -> Tensor:
        """Samples that add nothing to gradients: non-finite, without a usable value, or
        recorded at another evaluation than the one that the solve returns. A boolean
        tensor of shape (B,)."""
        return self._mask(
            [
                sample.status is Status.NONFINITE
                or math.isinf(sample.absolute)
                or unrecorded
                for sample, unrecorded in zip(
                    self.samples, self.unrecorded, strict=True
                )
            ]
        )

    def _count_running(self) -> None:
        running = [sample.active for sample in self.samples]
        if sum(running) != self.running:  # a sample that has stopped never goes on
            self.running = sum(running)
            self.active = self._mask(running)

    def _store(
        self, where: list[bool], x: Tensor, value: Tensor, output: Tensor | None
    ) -> None:
        if output is not None and self.output is None:
            self.output = torch.zeros_like(output)
        if all(where):
            self.x, self.value, self.output = x, value, output
        elif any(where):
            mask = self._mask(where)
            self.x = choose(mask, x, self.x)
            self.value = choose(mask, value, self.value)
            if output is not None:
                assert self.output is not None
                self.output = choose(mask, output, self.output)

    def _mask(self, where: list[bool]) -> Tensor:
        return torch.tensor(where, device=self.x.device)

    def _column(self, values: list[float] | list[list[float]]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self.x.device)

    def _table(self, columns: list[list[float]]) -> Tensor:
        """Return a tensor of shape (iterations, B), NaN after a sample has stopped."""
        length = max(map(len, columns))
        padded = [column + [math.nan] * (length - len(column)) for column in columns]
        return self._column(padded).T.contiguous()


def choose(where: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Return the rows of ``new`` where ``where`` is true, and of ``old`` elsewhere."""
    # A shortcut for the common case; on a GPU the test would force a synchronisation.
    if where.device.type == "cpu" and bool(where.all()):
        return new
    return torch.where(where.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _norms(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows.detach(), dim=1, dtype=torch.float64)


def _numbers(
    processes: Processes,
    x: Tensor,
    value: Tensor,
    output: Tensor | None,
    domain: Tensor | None,
    proposed: Tensor | None,
) -> Iterator[tuple[float, float, bool, bool, bool]]:
    """Yield the arguments of SampleRecord.observe for each sample. All numbers come
    from the device in one transfer."""
    finite = None
    if output is not None:
        finite = torch.isfinite(output.detach()).reshape(len(output), -1).all(dim=1)
    flags = (finite, domain, proposed)
    rows = [_norms(value.detach() - x.detach()), _norms(value)]
    rows += [flag.double() for flag in flags if flag is not None]
    absolute, size, *known = processes.agree(torch.stack(rows)).tolist()
    columns = iter(known)
    finite_, domain_, proposed_ = (
        repeat(default) if flag is None else map(bool, next(columns))
        for flag, default in zip(flags, (True, True, False), strict=True)
    )
    return zip(absolute, size, finite_, domain_, proposed_, strict=False)
