"""Steps: the maps whose fixed points are sought."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from .state import State, StateLayout

Step: TypeAlias = Callable[[State], State]
r"""A map :math:`f` from a state to a state of the same shapes. The measurement, the
physics and the weights are closed over. Samples must not be coupled (no BatchNorm in
train mode), and the step must be deterministic."""


@runtime_checkable
class HasDomain(Protocol):
    """A step that is defined on a part of the space only, e.g. on positive images."""

    def domain(self, state: State) -> Tensor:
        r"""
        :param torch.Tensor, tuple state: a state.
        :return: a boolean tensor of shape :math:`(B,)`, true where the step is defined.
            Accelerated proposals outside of it fall back to the plain step.
        """


@runtime_checkable
class HasOutput(Protocol):
    r"""
    A step that computes an output on the way which is no part of its state.

    Douglas-Rachford splitting is an example: its state is :math:`z`, and the image
    :math:`x = \operatorname{prox}_{\gamma g}(2\operatorname{prox}_{\gamma f}(z) - z)`
    comes with the step. Solvers carry the output of the evaluation they return, and
    adjoints differentiate through it, with no evaluation more.
    """

    def step_and_output(self, state: State) -> tuple[State, Tensor]:
        r"""
        :param torch.Tensor, tuple state: a state.
        :return: the next state, and the output, of shape :math:`(B, ...)`.
        """


class PackedStep:
    r"""
    A step on packed states, which counts its evaluations and checks their shapes.

    :param Callable step: the step.
    :param deepinv_equilibrium.fixed_points.StateLayout layout: layout of its states.
    """

    def __init__(self, step: Step, layout: StateLayout):
        self.step = step
        self.layout = layout
        self.evaluations = 0
        # HasOutput and HasDomain. Asked by name and once: an isinstance of a protocol
        # takes as long as a small layer.
        self._evaluate: Callable[[State], tuple[State, Tensor]] | None = getattr(
            step, "step_and_output", None
        )
        self._domain: Callable[[State], Tensor] | None = getattr(step, "domain", None)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Next packed state, and the output of a step that has one."""
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
        """Where the packed states are in the domain of the step; ``None`` where that
        is the whole space."""
        return None if self._domain is None else self._domain(self.layout.unpack(x))

    def inside(self, x: Tensor) -> Tensor:
        """Where the packed states are finite and in the domain of the step."""
        # A sum is finite where all its terms are, and ten times as fast as to ask each.
        finite = torch.isfinite(x.sum(dim=1, dtype=torch.float64))
        domain = self.domain(x)
        return finite if domain is None else finite & domain
