"""The loop that every solver of fixed-point equations runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

import torch
from torch import Tensor

from ..solution import LowRankInverse
from ..step import PackedStep
from .monitor import Monitor, choose
from .solver import Solver

Observer: TypeAlias = Callable[[Tensor, Tensor], None]
"""Called after every evaluation with the packed iterate and its packed value."""


class Iteration(Protocol):
    """The memory of one run of a solver."""

    def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
        """The next iterate after the step took ``x`` to ``value``."""

    def forget(self, where: Tensor) -> None:
        """Drop what was learned of these samples."""

    def inverse_jacobian(self) -> LowRankInverse | None:
        """The estimate of the inverse Jacobian, where the method builds one."""


@dataclass(frozen=True, kw_only=True)
class FixedPointSolver(Solver, ABC):
    r"""
    Base of the solvers of :math:`x = f(x)`. A method only says which point to try next;
    stopping, bookkeeping, the step's domain and non-finite values are handled here.
    """

    accelerated: ClassVar[bool] = True
    """Whether iterates are proposals that the step did not produce. The best one is
    then returned, and a bad one falls back to the plain step."""

    @property
    def fills_inverse_jacobian(self) -> bool:
        """Whether the solution carries an estimate of the inverse Jacobian."""
        return False

    @property
    def certified_rate(self) -> float | None:
        """Rate of the step that the solver relies on and holds it to, if any."""
        return None

    @abstractmethod
    def begin(self, x0: Tensor) -> Iteration:
        r"""
        :param torch.Tensor x0: packed initial state, of shape :math:`(B, n)`.
        :return: a fresh memory for one run.
        """

    def begin_on(self, step: PackedStep, x0: Tensor) -> Iteration:
        """A fresh memory for one run, for methods that ask for the step's layout."""
        return self.begin(x0)

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
        :param bool defer_last: leave the last evaluation of the budget to the caller,
            who records it: :attr:`Monitor.x` is then where to evaluate, and
            :attr:`Monitor.deferred` is true.
        :param Callable observer: shown every evaluation.
        :return: the book that was kept, not yet finished.
        """
        monitor = Monitor(
            self, x0, keep_best=self.accelerated, rate=self.certified_rate
        )
        iteration = self.begin_on(step, x0)
        x = x0
        proposed = torch.zeros_like(monitor.active) if self.accelerated else None
        for index in range(self.max_iter):
            last = index == self.max_iter - 1
            if last and defer_last:
                monitor.defer(x)
                break
            value, output = step(x)
            domain = step.domain(value)
            retry = monitor.observe(x, value, output, domain, proposed)
            if observer is not None:
                observer(x, value)
            if last or not monitor.running:
                break
            if retry is None:
                x = self._next(iteration, step, monitor, x, value)
            else:
                x, proposed = self._accelerate(
                    iteration, step, monitor, x, value, retry
                )
        monitor.inverse_jacobian = iteration.inverse_jacobian()
        return monitor

    def _next(
        self,
        iteration: Iteration,
        step: PackedStep,
        monitor: Monitor,
        x: Tensor,
        value: Tensor,
    ) -> Tensor:
        """Next iterate of every sample."""
        proposal = iteration.propose(x, value, monitor.active)
        if proposal is not value:  # over-relaxation may leave the domain
            proposal = choose(step.inside(proposal), proposal, value)
        if monitor.running == len(x):
            return proposal
        return choose(monitor.active, proposal, monitor.x)

    def _accelerate(
        self,
        iteration: Iteration,
        step: PackedStep,
        monitor: Monitor,
        x: Tensor,
        value: Tensor,
        retry: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Next iterate of every sample, and where it is an accelerated proposal."""
        iteration.forget(retry)
        proposal = iteration.propose(x, value, monitor.active & ~retry)
        proposed = step.inside(proposal) & monitor.active & ~retry
        plain = choose(~retry, value, monitor.value)
        x = choose(proposed, proposal, plain)
        return choose(monitor.active, x, monitor.x), proposed
