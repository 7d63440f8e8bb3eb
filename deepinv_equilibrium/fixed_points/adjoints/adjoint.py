"""What the adjoints share: recording the last evaluation and nothing before it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..failures import OnFailure
from ..solution import BackwardSlot
from ..solvers.fixed_point_solver import FixedPointSolver, Observer
from ..solvers.monitor import Monitor
from ..step import PackedStep
from .exclusion import annihilate_zero_cotangents, finite_saved_tensors, nodes_behind
from .gate import Recording, Transform, gate


@dataclass(frozen=True)
class Tracked:
    r"""
    A solve whose result carries a gradient.

    :param Monitor monitor: the finished book of the solve.
    :param torch.Tensor x: the packed fixed point.
    :param torch.Tensor output: its output, if the step has one.
    :param int extra_evaluations: evaluations besides those in the book.
    :param BackwardSlot slot: where the backward leaves its report.
    """

    monitor: Monitor
    x: Tensor
    output: Tensor | None
    extra_evaluations: int
    slot: BackwardSlot


@dataclass(frozen=True)
class Adjoint(ABC):
    """Base of the adjoints: frozen, without tensors, and ignorant of the solver."""

    differentiates_iterate: ClassVar[bool] = True
    """Whether the backward needs the Jacobian in the state."""

    def require(self, solver: FixedPointSolver) -> None:
        """Refuse a solver that cannot provide what this adjoint reads: SHINE and
        Unrolled do, the others take every solver."""
        return None

    @abstractmethod
    def transform(
        self, monitor: Monitor, slot: BackwardSlot, on_failure: OnFailure
    ) -> Transform:
        r"""
        :param Monitor monitor: the finished book of the forward solve.
        :param BackwardSlot slot: where to leave the report of the backward.
        :param str on_failure: what to do where the backward fails.
        :return: the map from the cotangent of the fixed point to that of the value.
        """

    def track(
        self,
        step: PackedStep,
        x0: Tensor,
        solver: FixedPointSolver,
        on_failure: OnFailure,
        observer: Observer | None,
    ) -> Tracked:
        r"""
        Solve without recording, then record what the gradient needs.

        :param PackedStep step: the step.
        :param torch.Tensor x0: packed initial state.
        :param FixedPointSolver solver: finds the fixed point.
        :param str on_failure: what to do where the backward fails.
        :param Callable observer: shown every evaluation of the solve.
        :return: the solution and its gradient.
        """
        with torch.no_grad():
            monitor = solver.run(
                step,
                x0.detach(),
                defer_last=not solver.accelerated,
                observer=observer,
            )
        iterate = monitor.x.detach()
        before = step.evaluations
        # Who is excluded is known only once a deferred evaluation has been observed.
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
        if bool(monitor.excluded.any()):
            before = step.evaluations
            with finite_saved_tensors():
                recording = self.record(step, iterate, monitor.excluded)
            annihilate_zero_cotangents((recording[-1].value, recording[-1].output))
            made += step.evaluations - before
        slot = BackwardSlot()
        x, x_output = monitor.value.detach(), monitor.output
        if _depends_on_more(recording[-1], recording[0].iterate):
            transform = self.transform(monitor, slot, on_failure)
            x, x_output = gate(transform, x, x_output, recording[-1])
        else:
            x = x.clone()  # a step may return what it closes over
        return Tracked(monitor, x, x_output, made, slot)

    def record(
        self, step: PackedStep, iterate: Tensor, excluded: Tensor
    ) -> list[Recording]:
        r"""
        Record the last evaluation.

        :param PackedStep step: the step.
        :param torch.Tensor iterate: where to evaluate it, packed.
        :param torch.Tensor excluded: samples that add nothing to any gradient.
        :return: the recordings, the first of the value that is returned, the last of
            what receives the cotangent.
        """
        iterate = iterate.detach().requires_grad_(self.differentiates_iterate)
        with torch.enable_grad():
            value, output = step(iterate)
        return [Recording(value, output, iterate, excluded)]


def _depends_on_more(recording: Recording, iterate: Tensor) -> bool:
    """Whether the recording reaches a leaf besides the iterate: else there is nothing
    to differentiate with respect to, and no graph should be handed out."""
    for node in nodes_behind((recording.value, recording.output)):
        leaf = getattr(node, "variable", None)
        if leaf is not None and leaf is not iterate:
            return True
    return False
