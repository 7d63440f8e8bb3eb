"""The base class of adjoints, which records the last evaluation of a solve."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..argument_checks import SuggestsArguments
from ..failures import FailurePolicy, report_failure
from ..solution import BackwardSlot, LowRankInverse, Report
from ..solvers.fixed_point_solver import FixedPointSolver, Observer
from ..solvers.monitor import Monitor
from ..step import PackedStep
from ..transforms import refuse_batched_cotangents
from .exclusion import (
    annihilate_zero_cotangents,
    finite_saved_tensors,
    finite_saved_tensors_if,
    leaves_behind,
)
from .gate import gate
from .recording import Cotangent, Recording


@dataclass(frozen=True)
class Tracked:
    r"""
    A solve whose result carries a gradient.

    :param Monitor monitor: the finished record of the solve.
    :param torch.Tensor x: the packed fixed point, of shape :math:`(B, n)`.
    :param torch.Tensor output: its output, of shape :math:`(B, ...)`, or ``None``.
    :param int extra_evaluations: evaluations of the step that ``monitor`` does not
        count.
    :param BackwardSlot slot: receives the report of the backward pass.
    """

    monitor: Monitor
    x: Tensor
    output: Tensor | None
    extra_evaluations: int
    slot: BackwardSlot


@dataclass(frozen=True)
class Adjoint(SuggestsArguments, ABC):
    r"""
    Base class of the adjoints, which give a fixed point :math:`x^* = f(x^*)` its
    gradient. An adjoint is a frozen dataclass that holds no tensors.

    After the solve, an evaluation of the step at the last iterate is recorded. In the
    backward, a subclass computes from the cotangent :math:`\partial\ell/\partial x^*`
    of the fixed point the cotangent :math:`v` of the recorded value :math:`f(x^*)`, and
    the gradient is :math:`v^\top \partial_\theta f(x^*)`. The exact one is
    :math:`v = (I - J^\top)^{-1} \partial\ell/\partial x^*` with
    :math:`J = \partial_x f(x^*)`. See :doc:`/user_guide/adjoints` for an example.
    """

    differentiates_iterate: ClassVar[bool] = True
    """Whether the backward needs products with :math:`J`."""

    reads_inverse_jacobian: ClassVar[bool] = False
    """Whether the backward needs the estimate of :math:`(I - J)^{-1}` of the solver."""

    def require(self, solver: FixedPointSolver) -> None:
        r"""
        Raise unless the adjoint can work with a solver.

        :param FixedPointSolver solver: the solver.
        :raises ValueError: if the adjoint reads an estimate of the inverse Jacobian
            that the solver does not build.
        """
        if self.reads_inverse_jacobian and not solver.fills_inverse_jacobian:
            raise ValueError(
                f"{type(self).__name__} reads Solution.inverse_jacobian, which "
                f"{type(solver).__name__} does not fill; use solver=Broyden(), or "
                "another adjoint."
            )

    @abstractmethod
    def transform(
        self, recording: Recording, cotangent: Cotangent
    ) -> tuple[Tensor, Report | None]:
        r"""
        Return the cotangent :math:`v` of the recorded value.

        :param Recording recording: the recorded evaluation of the step, which gives
            products with its Jacobian.
        :param Cotangent cotangent: derivatives of the loss in the fixed point and in
            its output.
        :return: (tuple) :math:`v`, of shape :math:`(B, n)`, and the report of the solve
            for it, which becomes :attr:`Solution.backward
            <deepinv_equilibrium.Solution.backward>`; ``None`` if no system is solved.
        """

    def track(
        self,
        step: PackedStep,
        x0: Tensor,
        solver: FixedPointSolver,
        on_failure: FailurePolicy,
        observer: Observer | None,
    ) -> Tracked:
        r"""
        Solve without recording a graph, then record what the gradient needs.

        :param PackedStep step: the step.
        :param torch.Tensor x0: packed initial state, of shape :math:`(B, n)`.
        :param FixedPointSolver solver: finds the fixed point.
        :param str on_failure: what to do if a sample fails in the backward.
        :param Callable observer: called after every evaluation of the solve.
        :return: (Tracked) the result of the solve, with its gradient.
        """
        with torch.no_grad():
            monitor = solver.run(
                step,
                x0.detach(),
                defer_last=not solver.accelerated,
                observer=observer,
            )
        monitor.excludes_failures = on_failure == "skip"
        iterate = monitor.x.detach()
        before = step.evaluations
        late = monitor.reads_late
        with finite_saved_tensors_if(monitor.excludes_some) if late else nullcontext():
            # A deferred evaluation may exclude further samples, see below.
            recording = self.record(step, iterate, torch.zeros_like(monitor.active))
        made = step.evaluations - before
        if monitor.deferred:
            made -= 1
            value = recording[0].value.detach()
            output = recording[0].output
            output = None if output is None else output.detach()
            with torch.no_grad():
                monitor.observe(iterate, value, output, step.domain(value))
            if observer is not None:
                observer(iterate, value)
        monitor.finish()
        if late:
            recording = [replace(r, excluded=monitor.excluded) for r in recording]
        elif monitor.excludes_some():
            before = step.evaluations
            with finite_saved_tensors():
                recording = self.record(step, iterate, monitor.excluded)
            annihilate_zero_cotangents((recording[-1].value, recording[-1].output))
            made += step.evaluations - before
        slot = BackwardSlot()
        x, x_output = monitor.value.detach(), monitor.output
        # A process may hold no parameters of the step; its backward must take part.
        reaches = _reaches_another_leaf(recording[-1], recording[0].iterate)
        if step.processes.any(reaches, iterate.device):
            x, x_output = self._attach(
                x,
                x_output,
                recording[-1],
                monitor.inverse_jacobian,
                slot,
                on_failure,
                monitor.excludes_some if late else None,
            )
        else:
            x = x.clone()  # the value may be a tensor that the step closes over
        return Tracked(monitor, x, x_output, made, slot)

    def record(
        self, step: PackedStep, iterate: Tensor, excluded: Tensor
    ) -> list[Recording]:
        r"""
        Record the last evaluation of the step.

        :param PackedStep step: the step.
        :param torch.Tensor iterate: packed iterate, of shape :math:`(B, n)`.
        :param torch.Tensor excluded: boolean, of shape :math:`(B,)`; the samples that
            add nothing to gradients.
        :return: (list) the recordings. The value of the first is returned, and the last
            receives the cotangent.
        """
        iterate = iterate.detach().requires_grad_(self.differentiates_iterate)
        with torch.enable_grad():
            value, output = step(iterate)
        return [
            Recording(
                value,
                output,
                iterate,
                excluded,
                processes=step.processes,
                autocast=step.autocast,
                step=(
                    None
                    if step.of_samples is None or step.processes.cooperate
                    else step
                ),
            )
        ]

    def _attach(
        self,
        x: Tensor,
        output: Tensor | None,
        recording: Recording,
        inverse: LowRankInverse | None,
        slot: BackwardSlot,
        on_failure: FailurePolicy,
        excludes_late: Callable[[], bool] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the fixed point and its output, with their gradient.
        ``excludes_late`` tells in the backward whether samples are excluded, where this
        is not known in the forward."""
        # Unless it is read, the graph must not keep the memory of the solver alive.
        estimate = inverse if self.reads_inverse_jacobian else None
        processes, autocast = recording.processes, recording.autocast
        step = recording.step

        what = f"The adjoint solve of {type(self).__name__}"

        def transform(recording: Recording, cotangent: Cotangent) -> Tensor:
            if self.differentiates_iterate:
                refuse_batched_cotangents(what, cotangent.state)
            if excludes_late is not None and excludes_late():
                annihilate_zero_cotangents((recording.value, recording.output))
            recording = replace(
                recording,
                inverse_jacobian=estimate,
                processes=processes,
                autocast=autocast,
                step=step,
            )
            v, report = self.transform(recording, cotangent)
            slot.report = report
            if autocast is not None and autocast.scales_losses:
                # A GradScaler skips the update and reduces the scale of the loss only
                # if it finds a gradient that is not finite.
                overflow = ~torch.isfinite(cotangent.state).all(dim=1)
                v = torch.where(overflow[:, None], torch.nan, v)
                if report is not None and report.failed_count and overflow.any():
                    return v
            if report is not None:
                report_failure(report, on_failure, what)
                if on_failure == "skip" and report.failed_count:
                    failed = [status.failed for status in report.status]
                    where = torch.tensor(failed, device=v.device)
                    v = torch.where(where[:, None], 0.0, v)
            return v

        return gate(transform, x, output, recording)


def _reaches_another_leaf(recording: Recording, iterate: Tensor) -> bool:
    """Whether the recording depends on a leaf other than the iterate. If not, there is
    nothing to differentiate in, and the solution carries no graph."""
    leaves = leaves_behind((recording.value, recording.output))
    return any(leaf is not iterate for leaf in leaves)
