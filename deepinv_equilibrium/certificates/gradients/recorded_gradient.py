"""The gradient that a model computes, and what went into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from deepinv.physics import Physics
from torch import Tensor, nn

from ...fixed_points import Solution, State, Step, fixed_point
from .smooth_loss import Loss, loss_gradient


class EquilibriumModel(Protocol):
    """A model that solves a fixed-point problem, such as ``deq.optim.PGD(...,
    DEQ=...)``."""

    equilibrium: Any
    """Has the solver, the adjoint and the number of layers; ``None`` without one."""

    def fixed_point_problem(self, y: Any, physics: Any) -> tuple[Step, State]:
        """The step and the initial state."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """The parameters; those that require a gradient are differentiated."""


@dataclass(frozen=True)
class Evaluation:
    r"""
    An evaluation of the step that received a part of the gradient.

    :param torch.Tensor state: :math:`x_j`, where the step was evaluated.
    :param torch.Tensor value: :math:`f(x_j)`.
    :param torch.Tensor cotangent: :math:`c_j`, what the backward sent into it.
    """

    state: Tensor
    value: Tensor
    cotangent: Tensor


@dataclass(frozen=True)
class RecordedGradient:
    r"""
    A gradient :math:`\hat g = \sum_j \partial_\theta f(x_j)^\top c_j`. Every adjoint
    makes one of this form: with one evaluation (Implicit, Neumann, SHINE,
    JacobianFree(1), ReTune, whose step is a block) or several (JacobianFree, Unrolled).

    :param Callable step: :math:`f`.
    :param torch.Tensor x0: the initial state.
    :param Solution solution: of the solve, detached.
    :param tuple parameters: the trained parameters :math:`\theta`.
    :param tuple gradient: :math:`\hat g`, a tensor a parameter.
    :param torch.Tensor loss_gradient: :math:`\nabla \ell` at the solution.
    :param tuple evaluations: the evaluations, in the order they were made.
    """

    step: Step
    x0: Tensor
    solution: Solution
    parameters: tuple[Tensor, ...]
    gradient: tuple[Tensor, ...]
    loss_gradient: Tensor
    evaluations: tuple[Evaluation, ...]

    @property
    def x(self) -> Tensor:
        """The solution."""
        assert isinstance(self.solution.x, Tensor)
        return self.solution.x


def record_gradient(
    model: EquilibriumModel, y: Any, physics: Physics, loss: Loss
) -> RecordedGradient:
    r"""
    Run a model and its adjoint as in training, watching.

    :param EquilibriumModel model: the model.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param Callable loss: the loss.
    :raises ValueError: if the model solves no fixed point or learns nothing, or its
        state is not the image.
    """
    parameters = trained_parameters(model)
    with torch.enable_grad():
        step, x0 = image_problem(model, y, physics)
        config = model.equilibrium
        if x0.requires_grad and any(
            g is not None
            for g in torch.autograd.grad(
                x0.sum(), parameters, retain_graph=True, allow_unused=True
            )
        ):
            raise ValueError(
                "the initial image depends on the trained parameters, which the bounds "
                "of a fixed point's gradient leave out; start elsewhere (custom_init)."
            )
        watched = _Watched(step)
        solution = fixed_point(
            watched, x0.detach(), config.solver, config.adjoint, "ignore"
        )
        assert isinstance(solution.x, Tensor)
        value = loss(solution.x)
        direct = loss_gradient(loss, solution.x)
        gradients: tuple[Tensor | None, ...] = (None,) * len(parameters)
        if solution.x.requires_grad:
            gradients = torch.autograd.grad(value.sum(), parameters, allow_unused=True)
    return RecordedGradient(
        step,
        x0.detach(),
        replace(solution.detach(), inverse_jacobian=None),
        parameters,
        tuple(
            torch.zeros_like(p) if g is None else g.detach()
            for p, g in zip(parameters, gradients, strict=True)
        ),
        direct,
        tuple(watched.evaluations),
    )


def trained_parameters(model: EquilibriumModel) -> tuple[Tensor, ...]:
    """The parameters that require a gradient."""
    parameters = tuple(p for p in model.parameters() if p.requires_grad)
    if not parameters:
        raise ValueError(
            "the model has no parameters that require a gradient; name some in "
            "trainable_params, or unfreeze the denoiser."
        )
    return parameters


def image_problem(
    model: EquilibriumModel, y: Any, physics: Physics
) -> tuple[Step, Tensor]:
    """The fixed-point problem of a model whose state is the image."""
    if getattr(model, "equilibrium", None) is None:
        raise ValueError(
            f"this {type(model).__name__} solves no fixed point; build it with "
            "DEQ=Equilibrium(...) or DEQ=ReTune(...)."
        )
    step, x0 = model.fixed_point_problem(y, physics)
    if hasattr(step, "step_and_output"):
        reason = "the image is an output of its step, computed from another state"
    elif not isinstance(x0, Tensor):
        reason = "the image is only a part of its state"
    elif x0.is_complex():
        reason = "its state is complex"
    else:
        return step, x0
    raise ValueError(
        "gradient errors are bounded for models whose state is the real image (PGD, "
        f"GD, HQS), and this {type(model).__name__} is none: {reason}."
    )


class _Watched:
    """A step that keeps its recorded evaluations and the cotangents they receive."""

    def __init__(self, step: Step):
        self.step = step
        self.evaluations: list[Evaluation] = []
        domain: Callable[[State], Tensor] | None = getattr(step, "domain", None)
        if domain is not None:
            self.domain = domain

    def __call__(self, state: State) -> State:
        value = self.step(state)
        assert isinstance(state, Tensor)
        assert isinstance(value, Tensor)
        if torch.is_grad_enabled() and value.requires_grad:
            # A node of its own: a step may return what it closes over.
            value = value.view_as(value)
            value.register_hook(partial(self._keep, len(self.evaluations)))
            self.evaluations.append(
                Evaluation(state.detach(), value.detach(), torch.zeros_like(value))
            )
        return value

    def _keep(self, index: int, cotangent: Tensor) -> None:
        # Products of an adjoint solve come by first; the last is the gradient's.
        evaluation = self.evaluations[index]
        self.evaluations[index] = replace(evaluation, cotangent=cotangent.detach())
