"""Steps: the maps whose fixed points are sought."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from .autocast import Autocast, widen, widen_state
from .processes import ALONE, Processes
from .state import State, StateLayout

Step: TypeAlias = Callable[[State], State]
r"""A map :math:`f` from a state to a state of the same shapes. It closes over the
measurement, the physics and the weights. It must be deterministic, and must not couple
the samples of a batch, as BatchNorm in train mode does."""


OfSamples: TypeAlias = Callable[[Tensor], Step | None]
"""A function that takes the numbers of some samples of the batch, and returns the step
for these samples; ``None`` if it has none."""


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
    :param Autocast autocast: the setting under which the step is evaluated. Its values
        in half precision are converted to the precision of the state. Default:
        ``None``, no autocast.
    :param Processes processes: the processes that evaluate the step together. Default:
        this process alone.
    :param Callable of_samples: takes the numbers of some samples and returns the step
        for them, or ``None``. Default: ``None``, the step has only the whole batch.
    """

    def __init__(
        self,
        step: Step,
        layout: StateLayout,
        autocast: Autocast | None = None,
        processes: Processes = ALONE,
        of_samples: OfSamples | None = None,
    ):
        self.step = step
        self.of_samples = of_samples
        self.layout = layout
        self.autocast = autocast
        self.processes = processes
        self.evaluations = 0
        self._cached_without_gradient = False
        # The methods of HasOutput and HasDomain, looked up once: an isinstance check
        # of a protocol takes as long as a small layer.
        self._evaluate: Callable[[State], tuple[State, Tensor]] | None = getattr(
            step, "step_and_output", None
        )
        self._domain: Callable[[State], Tensor] | None = getattr(step, "domain", None)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the next packed state, and the output or ``None``."""
        if self.autocast is None:
            return self._evaluate_packed(x)
        if not torch.is_grad_enabled():
            self._cached_without_gradient = True
        elif self._cached_without_gradient:
            # Older versions of torch give the weights that autocast has converted
            # without gradients to recorded evaluations too, whose gradients are then
            # lost: https://github.com/pytorch/pytorch/issues/65766
            torch.clear_autocast_cache()
            self._cached_without_gradient = False
        with self.autocast.resumed():
            return self._evaluate_packed(x)

    def _evaluate_packed(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
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
        if self.autocast is not None:
            value = widen_state(value, self.layout)
            output = None if output is None else widen(output)
        self.layout.check(value)
        return self.layout.pack(value), output

    def noise(self, x: Tensor, value: Tensor) -> Tensor:
        r"""
        Measure what autocast changes in a value of the step.

        :param torch.Tensor x: packed states, of shape :math:`(B, n)`.
        :param torch.Tensor value: the values :math:`\tilde f(x)` under autocast.
        :return: (torch.Tensor) :math:`\|\tilde f(x) - f(x)\| / \|\tilde f(x)\|`, of
            shape :math:`(B,)`, with :math:`f` in the precision of the state, or 0 where
            a value is not finite.
        """
        assert self.autocast is not None
        self.evaluations += 1
        with torch.no_grad(), self.autocast.suspended():
            try:
                exact = self.layout.pack(self.step(self.layout.unpack(x)))
            except RuntimeError:
                # Weights of half precision take a state of single precision under
                # autocast only.
                return value.new_full((len(value),), self.autocast.eps)
            error = torch.linalg.vector_norm(value - exact, dim=1)
            ratio = error / torch.linalg.vector_norm(value, dim=1)
            return torch.where(torch.isfinite(ratio), ratio, 0.0)

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
