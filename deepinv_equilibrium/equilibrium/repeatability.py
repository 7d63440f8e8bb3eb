"""A check that a step depends on its state only, and not on chance or earlier calls."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from deepinv.models import Denoiser
from torch import Tensor, nn

from ..fixed_points import (
    ConvergenceWarning,
    FailurePolicy,
    Solution,
    StateLayout,
    Step,
)
from ..fixed_points.caller_warnings import warn_caller
from ..fixed_points.step import PackedStep

# Relative differences that rounding on an accelerator does not reach.
_VALUES, _PRODUCTS = 1e-4, 1e-2
# Evaluations of a step that draws random numbers. Two of them may agree by chance, e.g.
# if a block of the network is left out at random.
_EVALUATIONS = 32


@dataclass(frozen=True)
class CallTraces:
    r"""
    The states of random number generators, and the tensors that modules hold, before a
    solve.

    After the solve they tell at no cost whether the step may be random or remember
    earlier calls. Only then is the step evaluated again, at the solution.

    :param torch.nn.Module model: the model.
    :param torch.device device: the device of the images.
    """

    model: nn.Module
    device: torch.device
    generators: tuple[Any, ...]
    tensors: dict[tuple[str, str], Tensor]

    @staticmethod
    def of(model: nn.Module, device: torch.device) -> CallTraces:
        """Return the traces of a model before a solve."""
        generators = _generators(model, device)
        return CallTraces(model, device, generators, _tensors(model))

    def check(self, step: Step, solution: Solution, on_failure: FailurePolicy) -> None:
        r"""
        Check the step after a solve.

        :param Callable step: the step.
        :param deepinv_equilibrium.Solution solution: its solution.
        :param str on_failure: what happens if the step is random: ``"warn"``,
            ``"raise"``, ``"ignore"`` or ``"skip"``.
        :raises ValueError: if gradients are recorded and the step remembers earlier
            calls, or the step is random and ``on_failure="raise"``.
        """
        layout = StateLayout.of(solution.x)
        packed = PackedStep(step, layout)
        x = layout.pack(solution.x).detach()
        holders = self._memories(layout.batch_size) if _has_gradient(solution) else []
        drawn = _generators(self.model, self.device) != self.generators
        if not (holders or drawn) or not bool(torch.isfinite(x).all()):
            return
        with _random_numbers_restored(self.model, self.device):
            if holders:
                self._refuse_memory(packed, x, holders)
            if drawn and on_failure != "ignore":
                self._report_chance(packed, x, on_failure)

    def _memories(self, batch: int) -> list[str]:
        """Return the names of image-sized tensors that the solve has replaced."""
        return [
            f"{kind}.{name.rpartition('.')[2]}"
            for (name, kind), tensor in _tensors(self.model).items()
            if tensor is not self.tensors.get((name, kind))
            and tensor.ndim > 2
            and len(tensor) == batch
        ]

    def _refuse_memory(self, step: PackedStep, x: Tensor, holders: list[str]) -> None:
        value, product = _value_and_product(step, x)
        order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            step(x[:, order.to(x.device)])  # another image, with the same values
        again, other = _value_and_product(step, x)
        moved, turned = _difference(value, again), _difference(product, other)
        if moved > _VALUES or turned > _PRODUCTS:
            raise ValueError(
                f"the step of {type(self.model).__name__} remembers earlier calls in "
                f"{', '.join(holders)}: after a call with another image, its value "
                f"differs by {moved:.1e} and its product with the Jacobian by "
                f"{turned:.1e}, relatively. Autograd records only the last inner "
                "iterations, and gradients are wrong. Use a prior whose proximal "
                "operator has no memory, such as "
                "deepinv_equilibrium.optim.WeightedTVPrior for total variation, or "
                "call the model in torch.no_grad()."
            )

    def _report_chance(
        self, step: PackedStep, x: Tensor, on_failure: FailurePolicy
    ) -> None:
        with torch.no_grad():
            first = step(x)[0]
            gaps = (_difference(first, step(x)[0]) for _ in range(_EVALUATIONS))
            gap = next((gap for gap in gaps if gap > _VALUES), 0.0)
        if gap == 0:
            return
        names = {
            type(module).__name__
            for module in self.model.modules()
            if isinstance(module, Denoiser)
        }
        denoisers = f" ({', '.join(sorted(names))})" if names else ""
        message = (
            f"the step of {type(self.model).__name__} is random{denoisers}: two "
            f"evaluations at one state differ by {gap:.1e}, relatively. It has no "
            "fixed point, and the result is that of one random run. Remove the "
            "randomness, e.g. EquivariantDenoiser(denoiser, random=False), or set "
            "on_failure='ignore'."
        )
        if on_failure == "raise":
            raise ValueError(message)
        warn_caller(message, ConvergenceWarning)


def mode_of(model: nn.Module) -> tuple[bool, bool]:
    r"""
    Return what else decides whether a step is random or has a memory.

    :param torch.nn.Module model: the model.
    :return: (tuple) whether the model is in train mode, and whether gradients are
        enabled.
    """
    return model.training, torch.is_grad_enabled()


def _has_gradient(solution: Solution) -> bool:
    parts: Any = solution.x if isinstance(solution.x, tuple) else (solution.x,)
    return any(part.requires_grad for part in parts)


def _own_generators(model: nn.Module) -> list[torch.Generator]:
    return [
        value
        for module in model.modules()
        for value in vars(module).values()
        # isinstance takes three times as long for objects of other types.
        if torch.Generator in type(value).__mro__
    ]


@contextmanager
def _random_numbers_restored(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Restore the states of all generators from which a step may draw."""
    own = [(generator, generator.get_state()) for generator in _own_generators(model)]
    of_numpy = np.random.get_state()  # noqa: NPY002, users draw from it
    of_python = random.getstate()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        np.random.set_state(of_numpy)  # noqa: NPY002, users draw from it
        random.setstate(of_python)
        for generator, state in own:
            generator.set_state(state)


def _generators(model: nn.Module, device: torch.device) -> tuple[Any, ...]:
    """Return the states of all generators from which a step may draw."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    states += [generator.get_state() for generator in _own_generators(model)]
    of_torch = [state.numpy().tobytes() for state in states]
    of_numpy = np.random.get_state()  # noqa: NPY002, users draw from it
    return of_torch, pickle.dumps(of_numpy), random.getstate()


def _tensors(model: nn.Module) -> dict[tuple[str, str], Tensor]:
    """Return the tensors that modules hold, by name and type of the module."""
    return {
        (f"{name}.{key}", type(module).__name__): value
        for name, module in model.named_modules()
        for key, value in (vars(module) | module._buffers).items()
        if isinstance(value, Tensor)
    }


def _value_and_product(step: PackedStep, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the value of the step, and a vector-Jacobian product."""
    generator = torch.Generator().manual_seed(1)
    vector = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    with torch.enable_grad():
        state = x.clone().requires_grad_()
        value, _ = step(state)
    if not value.requires_grad:
        return value, torch.zeros_like(x)
    (product,) = torch.autograd.grad(value, state, vector, allow_unused=True)
    return value.detach(), torch.zeros_like(x) if product is None else product


def _difference(first: Tensor, second: Tensor) -> float:
    """Return the largest relative difference of a sample."""
    size = first.norm(dim=1).clamp_min(torch.finfo(first.dtype).tiny)
    return float(((first - second).norm(dim=1) / size).max())
