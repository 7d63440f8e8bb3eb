"""The record of a fixed-point solve: residuals, statuses and the values to return."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..autocast import Autocast
from ..late_numbers import LateNumbers, LateStatuses
from ..processes import ALONE, Processes
from ..solution import LowRankInverse, Report, Status
from ..step import PackedStep
from .look_schedule import LookSchedule
from .sample_records import Numbers, SampleRecords
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
    :param float growth: largest residual of a proposal relative to the best one.
        Default: infinite.
    :param float rate: certified contraction rate of the step, which then replaces
        ``growth``. Default: ``None``.
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
        growth: float = math.inf,
        rate: float | None = None,
        processes: Processes = ALONE,
        autocast: Autocast | None = None,
    ):
        info = torch.finfo(x0.dtype)
        rounding, underflow = _STATE_ROUNDING * info.eps, info.tiny / info.eps
        if autocast is not None:
            rounding = max(rounding, _AUTOCAST_ROUNDING * autocast.eps)
        self.samples = SampleRecords(
            solver,
            x0,
            keep_best,
            growth,
            rate,
            rounding,
            underflow,
            autocast is not None,
        )
        self.processes = processes
        self.x = x0
        self.value = x0
        self.output: Tensor | None = None
        self.inverse_jacobian: LowRankInverse | None = None
        self.running = len(x0)
        self.running_samples = [True] * len(x0)
        self.active = torch.ones(len(x0), dtype=torch.bool, device=x0.device)
        self.comparisons = torch.zeros_like(self.active, dtype=torch.long)
        self.deferred = False
        self.unrecorded = torch.zeros_like(self.active)
        self.excludes_failures = False
        """Whether samples that have failed add nothing to gradients."""
        self.late: LateNumbers | None = None
        self._codes: list[int] = []
        self._excludes_some = False
        self._schedule = None if self.samples.on_host else LookSchedule()

    @property
    def reads_late(self) -> bool:
        """Whether the host does not wait for the end of the solve: the states are on an
        accelerator, and no tolerance could stop a sample."""
        stops = self.samples.solver.has_tolerance or self.samples.rate is not None
        return not (self.samples.on_host or stops)

    def look(self, step: PackedStep, x: Tensor, value: Tensor) -> bool:
        r"""
        Return whether samples are still running.

        On the host this is known after each evaluation. On an accelerator the host
        looks as :class:`LookSchedule` says, and assumes that samples run meanwhile;
        where no tolerance was given it never looks. Under autocast a look also stops
        the samples whose residual has stopped falling at the noise of autocast.

        :param PackedStep step: the step, which measures its noise.
        :param torch.Tensor x: the last iterates, of shape :math:`(B, n)`.
        :param torch.Tensor value: their values, of shape :math:`(B, n)`.
        """
        samples, made = self.samples, len(self.samples.history)
        if self._schedule is None:
            if samples.watches_noise and samples.may_be_noise.any():
                self._compare_with_noise(step, x, value)
        elif not self.reads_late and self._schedule.is_due(made):
            rows = [samples.ratios, samples.active, samples.status, self.excluded]
            if samples.watches_noise:
                rows.append(samples.may_be_noise)
            numbers = torch.stack([row.double() for row in rows]).tolist()
            ratios, active, codes, excluded, *noisy = numbers
            self.running_samples = [flag == 1 for flag in active]
            self._schedule.plan(made, ratios, self.running_samples)
            self.running = sum(self.running_samples)
            self._codes, self._excludes_some = [int(c) for c in codes], any(excluded)
            if noisy and any(noisy[0]):
                self._compare_with_noise(step, x, value)
        return self.running > 0

    def _compare_with_noise(self, step: PackedStep, x: Tensor, value: Tensor) -> None:
        noise = self.processes.agree(step.noise(x, value).double())
        self.samples.compare_with_noise(self.samples.of(noise))
        self._update_active()

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
        running = self.active
        numbers = self._numbers(x, value, output, domain, proposed)
        chosen, rejected = self.samples.observe(*numbers)
        where = None if chosen is None else self.samples.tensor(chosen)
        self._store(where, x, value, output)
        if self.deferred and where is not None:
            # The recorded evaluation is not the one that the solve returns.
            self.unrecorded = running & ~where
        self._update_active()
        if proposed is None:
            return None
        if rejected is None:
            return torch.zeros_like(proposed)
        return self.samples.tensor(rejected)

    def count_comparison(self) -> None:
        """Count an evaluation of the running samples that is not observed."""
        self.comparisons = self.comparisons + self.active

    def defer(self, x: Tensor) -> None:
        """Leave the evaluation at ``x`` to the caller, who records it."""
        self.x = choose(self.active, x, self.x)
        self.deferred = True

    def finish(self) -> None:
        """Set the status of the samples that are still running, and read it unless
        :attr:`reads_late`."""
        samples = self.samples
        if not (samples.on_host or self.running):  # the last look has read all
            return
        samples.finish(samples.of(self.processes.agree(_norms(self.value))))
        if samples.on_host:
            self._codes = samples.status.tolist()
            self._excludes_some = bool(self.excluded.any())
            return
        numbers = torch.stack([samples.status, self.excluded.long()])
        if self.reads_late:
            self.late = LateNumbers(numbers)
        else:
            self._codes, excluded = numbers.tolist()
            self._excludes_some = any(excluded)

    def excludes_some(self) -> bool:
        """Return whether a sample adds nothing to gradients, after :meth:`finish`. The
        host waits for the end of the solve if it must."""
        if self.late is not None:
            return any(self.late.read()[1])
        # The last look may have come before it was known that failures are excluded.
        fails = self.excludes_failures and max(self._codes) > Status.COMPLETED
        return self._excludes_some or fails

    def report(self, extra_evaluations: int = 0) -> Report:
        r"""
        Return the report of the solve.

        :param int extra_evaluations: evaluations of the step that were not observed,
            to be added to the count. Default: 0.
        :return: (Report) the report.
        """
        samples, tensor = self.samples, self.samples.tensor
        iterations = tensor(samples.iterations)
        further = tensor(samples.measurements) + self.comparisons
        return Report(
            status=(
                tuple(map(Status, self._codes))
                if self.late is None
                else LateStatuses(self.late, len(self.x))
            ),
            residual=tensor(samples.residual),
            absolute_residual=tensor(samples.absolute),
            iterations=iterations,
            evaluations=iterations + extra_evaluations + further,
            history=samples.table(samples.history),
            absolute_history=samples.table(samples.absolute_history),
            noise=tensor(samples.noise) if samples.was_measured else None,
        )

    @property
    def excluded(self) -> Tensor:
        """Samples that add nothing to gradients: non-finite, without a usable value,
        recorded at another evaluation than the one that the solve returns, or failed if
        :attr:`excludes_failures`. A boolean tensor of shape (B,)."""
        excluded = self.samples.excluded
        if self.excludes_failures:
            excluded = excluded | (self.samples.status > int(Status.COMPLETED))
        return self.samples.tensor(excluded) | self.unrecorded

    def _update_active(self) -> None:
        if self.samples.all_active:
            return
        if self.samples.on_host:
            running = self.samples.active.tolist()
            if running == self.running_samples:
                return
            self.running_samples, self.running = running, sum(running)
        self.active = self.samples.tensor(self.samples.active)

    def _store(
        self, where: Tensor | None, x: Tensor, value: Tensor, output: Tensor | None
    ) -> None:
        if output is not None and self.output is None:
            self.output = torch.zeros_like(output)
        if where is None:
            self.x, self.value, self.output = x, value, output
            return
        self.x = choose(where, x, self.x)
        self.value = choose(where, value, self.value)
        if output is not None:
            assert self.output is not None
            self.output = choose(where, output, self.output)

    def _numbers(
        self,
        x: Tensor,
        value: Tensor,
        output: Tensor | None,
        domain: Tensor | None,
        proposed: Tensor | None,
    ) -> Iterator[Numbers | None]:
        """Yield the arguments of SampleRecords.observe. Processes agree on all of them
        in one operation."""
        finite = None
        if output is not None:
            finite = torch.isfinite(output.detach()).reshape(len(output), -1).all(dim=1)
        flags = (finite, domain, proposed)
        rows = [_norms(value.detach() - x.detach()), _norms(value)]
        rows += [flag.double() for flag in flags if flag is not None]
        numbers = iter(self.samples.of(self.processes.agree(torch.stack(rows))))
        yield next(numbers)
        yield next(numbers)
        for flag in flags:
            yield None if flag is None else next(numbers) == 1


def choose(where: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Return the rows of ``new`` where ``where`` is true, and of ``old`` elsewhere."""
    # A shortcut for the common case; on a GPU the test would force a synchronisation.
    if where.device.type == "cpu" and bool(where.all()):
        return new
    return torch.where(where.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _norms(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows.detach(), dim=1, dtype=torch.float64)
