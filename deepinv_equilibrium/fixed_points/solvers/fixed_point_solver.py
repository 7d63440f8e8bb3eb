"""The loop that all solvers of fixed-point equations share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from ..running_samples import RunningSamples
from ..solution import LowRankInverse
from ..state import StateLayout
from ..step import PackedStep
from .monitor import Monitor, choose
from .solver import Solver

Observer: TypeAlias = Callable[[Tensor, Tensor], None]
"""A function of a packed iterate and its value, called after every evaluation."""


class Iteration(ABC):
    r"""
    One run of a solver: what it has learned so far, and its next proposal.

    States are packed, of shape :math:`(B, n)`. The methods must not couple the rows,
    and must not change their arguments in place.
    """

    @abstractmethod
    def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
        r"""
        Return the next iterate of every sample, after an evaluation of the step.

        :param torch.Tensor x: the iterates, of shape :math:`(B, n)`.
        :param torch.Tensor value: the values :math:`f(x)`, of shape :math:`(B, n)`.
        :param torch.Tensor active: boolean, of shape :math:`(B,)`; false for a sample
            that has stopped, or whose last proposal was rejected. Such rows of ``x``
            and ``value`` may hold NaN and must not be learned from; the rows that are
            returned for them are not used.
        :return: (torch.Tensor) the proposals, of shape :math:`(B, n)`.
        """

    def forget(self, where: Tensor) -> None:
        r"""
        Discard what was learned about some samples.

        An accelerated solver calls this method before each :meth:`propose`, with the
        samples whose last proposal was rejected. Default: does nothing.

        :param torch.Tensor where: boolean, of shape :math:`(B,)`.
        """
        return None

    def inverse_jacobian(self) -> LowRankInverse | None:
        r"""
        Return the estimate of :math:`(I - \partial f)^{-1}` at the end of the run.

        :return: (LowRankInverse) the estimate, or ``None`` (the default) for a method
            that builds none.
        """
        return None


@dataclass(frozen=True, kw_only=True)
class FixedPointSolver(Solver, ABC):
    r"""
    Base class of the solvers of :math:`x = f(x)`.

    A subclass implements :meth:`begin`, whose :class:`Iteration
    <deepinv_equilibrium.fixed_points.Iteration>` proposes the next iterate. This class
    implements the rest: stopping, reports, the domain of the step, and samples that
    turn non-finite. A subclass that checks fields of its own in ``__post_init__`` calls
    ``super().__post_init__()``, which checks the arguments below. See
    :doc:`/user_guide/solvers` for an example.

    :param int max_iter: largest number of evaluations of the step. Default: 100.
    :param float rtol: tolerance on the relative residual. Default: ``1e-4``.
    :param float atol: tolerance on the absolute residual. Default: 0.
    :raises ValueError: if an argument is out of its range.
    """

    accelerated: ClassVar[bool] = True
    """Whether iterates are proposals that the step did not produce. An accelerated
    solver returns :math:`f` of its best iterate. It rejects a proposal that is not
    finite, leaves the domain of the step or has more than :attr:`largest_growth` times
    the best residual, and goes on from the value at the best iterate. A solver that is
    not accelerated takes every proposal that is finite and in the domain, and returns
    :math:`f` of its last iterate."""

    largest_growth: ClassVar[float] = 10.0
    """Largest residual of a proposal relative to the best one, for an accelerated
    solver without a certified rate. With ten times the best residual the model behind a
    proposal is wrong."""

    @property
    def fills_inverse_jacobian(self) -> bool:
        """Whether the solution has an estimate of the inverse Jacobian, which
        :class:`SHINE <deepinv_equilibrium.SHINE>` reads."""
        return False

    @property
    def certified_rate(self) -> float | None:
        """Certified contraction rate of the step, or ``None`` if the solver uses none.
        A proposal must contract at this rate; a plain step that does not ends its
        sample as ``REFUTED``."""
        return None

    @abstractmethod
    def begin(self, x0: Tensor, layout: StateLayout) -> Iteration:
        r"""
        Start a run.

        :param torch.Tensor x0: packed initial state, of shape :math:`(B, n)`.
        :param StateLayout layout: the layout of the states, which unpacks them.
        :return: (Iteration) a new iteration, which has learned nothing yet.
        """

    def run(
        self,
        step: PackedStep,
        x0: Tensor,
        *,
        defer_last: bool = False,
        observer: Observer | None = None,
    ) -> Monitor:
        r"""
        Iterate until every sample has stopped.

        :param PackedStep step: the step.
        :param torch.Tensor x0: packed initial state, of shape :math:`(B, n)`.
        :param bool defer_last: whether to leave the last evaluation of the budget to
            the caller, who records it. ``Monitor.deferred`` is then true if that
            evaluation is due, and ``Monitor.x`` is where to evaluate.
        :param Callable observer: called after every evaluation.
        :return: (Monitor) the record of the run; the caller calls its ``finish``.
        """
        monitor = Monitor(
            self,
            x0,
            keep_best=self.accelerated,
            growth=self.largest_growth,
            rate=self.certified_rate,
            processes=step.processes,
            autocast=step.autocast,
        )
        iteration = self.begin(x0, step.layout)
        samples = RunningSamples(step)
        x = x0
        proposed = torch.zeros_like(monitor.active) if self.accelerated else None
        for index in range(self.max_iter):
            last = index == self.max_iter - 1
            if last and defer_last:
                monitor.defer(x)
                break
            value, output = samples.evaluate(x, monitor.value, monitor.output)
            domain = step.domain(value)
            rejected = monitor.observe(x, value, output, domain, proposed)
            if observer is not None:
                observer(x, value)
            if not monitor.look(step, x, value) or last:
                break
            if samples.leave_out(monitor.running_samples, x, value):
                monitor.count_comparison()
            x, proposed = self._next(iteration, step, monitor, x, value, rejected)
        monitor.inverse_jacobian = iteration.inverse_jacobian()
        return monitor

    def _next(
        self,
        iteration: Iteration,
        step: PackedStep,
        monitor: Monitor,
        x: Tensor,
        value: Tensor,
        rejected: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the next iterates, and for an accelerated solver which of them are
        proposals."""
        active, plain = monitor.active, value
        if rejected is not None:
            iteration.forget(rejected)
            active = active & ~rejected
            plain = choose(~rejected, value, monitor.value)
        proposal = iteration.propose(x, value, active)
        proposed = active
        if proposal is not plain:  # even relaxation > 1 may leave the domain
            proposed = step.inside(proposal) & active
            proposal = choose(proposed, proposal, plain)
        if not monitor.samples.all_active:
            proposal = choose(monitor.active, proposal, monitor.x)
        return proposal, None if rejected is None else proposed
