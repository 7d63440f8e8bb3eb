"""The gradient that a model computes, and the evaluations that contribute to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from deepinv.physics import Physics
from torch import Tensor, nn

from ...fixed_points import Solution, State, Step, fixed_point
from ...fixed_points.processes import require_one_process
from .smooth_loss import Loss, loss_gradient


class FixedPointModel(Protocol):
    """A model that solves a fixed-point problem, such as ``deq.optim.PGD(...,
    DEQ=...)``."""

    DEQ: Any
    """The configuration: solver, adjoint and number of layers. ``None`` for a model
    that does not solve a fixed-point problem."""

    def fixed_point_problem(self, y: Any, physics: Any) -> tuple[Step, State]:
        """Return the step and the initial state."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the model."""


@dataclass(frozen=True)
class Evaluation:
    r"""
    An evaluation of the step that contributes to the gradient.

    :param torch.Tensor state: :math:`x_j`.
    :param torch.Tensor value: :math:`f(x_j)`.
    :param torch.Tensor cotangent: :math:`c_j`, the gradient that the backward pass
        sends to the value.
    """

    state: Tensor
    value: Tensor
    cotangent: Tensor


@dataclass(frozen=True)
class RecordedGradient:
    r"""
    The gradient :math:`\hat g = \sum_j \partial_\theta f(x_j)^\top c_j` that an adjoint
    computed. The sum has one term for Implicit, Neumann, SHINE, JacobianFree(1) and
    ReTune, whose step is a block, and several terms for JacobianFree(steps) and
    Unrolled.

    :param Callable step: :math:`f`.
    :param torch.Tensor x0: the initial state.
    :param Solution solution: the solution, without a graph.
    :param tuple parameters: the trained parameters :math:`\theta`.
    :param tuple gradient: :math:`\hat g`, one tensor for each parameter.
    :param torch.Tensor loss_gradient: :math:`\nabla \ell` at the solution.
    :param tuple evaluations: the evaluations in their order in time.
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
        """The state of the solution."""
        assert isinstance(self.solution.x, Tensor)
        return self.solution.x


def record_gradient(
    model: FixedPointModel, y: Any, physics: Physics, loss: Loss
) -> RecordedGradient:
    r"""
    Compute the gradient of a model as in training, and record the evaluations that
    contribute to it.

    :param FixedPointModel model: the model.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param Callable loss: the loss.
    :return: the gradient and the evaluations.
    :raises ValueError: if the model does not solve a fixed-point problem, has no
        trained parameters, or has another state than the image, or if the initial image
        depends on the trained parameters.
    """
    parameters = trained_parameters(model)
    with torch.enable_grad():
        step, x0 = image_problem(model, y, physics)
        config = model.DEQ
        if x0.requires_grad and any(
            g is not None
            for g in torch.autograd.grad(
                x0.sum(), parameters, retain_graph=True, allow_unused=True
            )
        ):
            raise ValueError(
                "the initial image depends on the trained parameters, but the bounds "
                "of a fixed point's gradient do not include this dependence; choose "
                "another initial image with custom_init."
            )
        recorder = _Recorder(step)
        solution = fixed_point(
            recorder, x0.detach(), config.solver, config.adjoint, "ignore"
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
        tuple(recorder.evaluations),
    )


def trained_parameters(model: FixedPointModel) -> tuple[Tensor, ...]:
    """Return the parameters that require a gradient; raise if there are none."""
    parameters = tuple(p for p in model.parameters() if p.requires_grad)
    if not parameters:
        raise ValueError(
            "the model has no parameters that require a gradient; name some in "
            "trainable_params, or unfreeze the denoiser."
        )
    return parameters


def image_problem(
    model: FixedPointModel, y: Any, physics: Physics
) -> tuple[Step, Tensor]:
    r"""
    Return the fixed-point problem of a model whose state is the image.

    :param FixedPointModel model: the model.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :return: the step and the initial image.
    :raises ValueError: if the model does not solve a fixed-point problem, its state is
        not the real image, or it is distributed over several processes.
    """
    solves = hasattr(model, "fixed_point_problem")
    if not solves or getattr(model, "DEQ", None) is None:
        raise ValueError(
            f"this {type(model).__name__} solves no fixed point; build it with "
            "DEQ=Equilibrium(...) or DEQ=ReTune(...)."
        )
    require_one_process(model, physics)
    check_input = getattr(model, "check_input", None)
    if check_input is not None:  # an EquilibriumModel checks y and physics
        check_input(y, physics)
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
        "this bound is for models whose state is the real image, such as PGD, GD and "
        f"HQS. This {type(model).__name__} is not such a model: "
        f"{reason}."
    )


class _Recorder:
    """A step that records its differentiable evaluations and their cotangents."""

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
            # The hook needs a node of its own: a step may return a tensor that it
            # closes over.
            value = value.view_as(value)
            value.register_hook(partial(self._store, len(self.evaluations)))
            self.evaluations.append(
                Evaluation(state.detach(), value.detach(), torch.zeros_like(value))
            )
        return value

    def _store(self, index: int, cotangent: Tensor) -> None:
        # The products of an adjoint solve come first. The last cotangent belongs to the
        # gradient and overwrites theirs.
        evaluation = self.evaluations[index]
        self.evaluations[index] = replace(evaluation, cotangent=cotangent.detach())
