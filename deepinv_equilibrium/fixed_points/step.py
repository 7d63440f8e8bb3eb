"""Steps: the maps whose fixed points are sought."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from .processes import ALONE, Processes
from .state import State, StateLayout

Step: TypeAlias = Callable[[State], State]
r"""A map :math:`f` from a state to a state of the same shapes. It closes over the
measurement, the physics and the weights. It must be deterministic, and must not couple
the samples of a batch, as BatchNorm in train mode does."""


@runtime_checkable
class HasDomain(Protocol):
    """A step that is defined on a part of the space only, such as positive images."""

    def domain(self, state: State) -> Tensor:
        r"""
        Return where the step is defined.

        A solver never evaluates the step at an accelerated proposal outside its domain;
        it takes a plain step instead.

        :param torch.Tensor, tuple state: a state.
        :return: (torch.Tensor) a boolean tensor of shape :math:`(B,)`.
        """


@runtime_checkable
class HasOutput(Protocol):
    r"""
    A step that also computes an output, such as an image, from its state.

    The state of Douglas-Rachford splitting, for example, is :math:`z`, and its output
    is the image
    :math:`x = \operatorname{prox}_{\gamma g}(2\operatorname{prox}_{\gamma f}(z) - z)`.
    A solver returns the output together with the state, and an adjoint differentiates
    through both, without a further evaluation of the step.
    """

    def step_and_output(self, state: State) -> tuple[State, Tensor]:
        r"""
        Evaluate the step.

        :param torch.Tensor, tuple state: a state.
        :return: (tuple) the next state, and the output, of shape :math:`(B, ...)`.
        """


class PackedStep:
    r"""
    A step on packed states, which counts its evaluations and checks its values.

    :param Callable step: the step.
    :param deepinv_equilibrium.fixed_points.StateLayout layout: layout of its states.
    :param Processes processes: the processes that evaluate the step together. Default:
        this process alone.
    """

    def __init__(
        self, step: Step, layout: StateLayout, *, processes: Processes = ALONE
    ):
        self.step = step
        self.layout = layout
        self.processes = processes
        self.evaluations = 0
        # The methods of HasOutput and HasDomain, looked up once: an isinstance check
        # of a protocol takes as long as a small layer.
        self._evaluate: Callable[[State], tuple[State, Tensor]] | None = getattr(
            step, "step_and_output", None
        )
        self._domain: Callable[[State], Tensor] | None = getattr(step, "domain", None)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the next packed state, and the output or ``None``."""
        self.evaluations += 1
        state = self.layout.unpack(x)
        version = None if x.is_inference() else x._version
        output = None
        if self._evaluate is not None:
            value, output = self._evaluate(state)
            if not isinstance(output, Tensor):
                raise TypeError(
                    "the output of a step must be a tensor, got "
                    f"{type(output).__name__}."
                )
            if output.shape[:1] != (self.layout.batch_size,):
                raise ValueError(
                    "the output of a step must have the batch axis of its state, of "
                    f"size {self.layout.batch_size}, got shape {tuple(output.shape)}."
                )
        else:
            value = self.step(state)
        if version is not None and x._version != version:
            raise ValueError(
                "the step changed the state it was given in place; it must return a "
                "new one (x * 0.5, not x.mul_(0.5))."
            )
        self.layout.check(value)
        return self.layout.pack(value), output

    def domain(self, x: Tensor) -> Tensor | None:
        """Return where packed states are in the domain of the step, or ``None`` if the
        step declares no domain."""
        return None if self._domain is None else self._domain(self.layout.unpack(x))

    def inside(self, x: Tensor) -> Tensor:
        """Return where packed states are finite and in the domain of the step."""
        # The sum of a row is finite only if all its entries are. Checking the sum is
        # ten times as fast as checking every entry.
        finite = torch.isfinite(x.sum(dim=1, dtype=torch.float64))
        domain = self.domain(x)
        return self.processes.agree(finite if domain is None else finite & domain)
