"""Models that solve a fixed-point problem, and the check that a model is one."""

from __future__ import annotations

import inspect
from typing import Any

from deepinv.models.GSPnP import GSPnP
from deepinv.physics import Physics
from torch import Tensor, nn

from ..fixed_points import State, Step
from ..fixed_points.processes import require_one_process


def fixed_point_problem(
    model: Any, y: Tensor, physics: Physics, *, differentiable: bool = False
) -> tuple[Step, State]:
    r"""
    Return the step :math:`f` and the initial state :math:`x_0` of a model.

    :param model: a model with the method ``fixed_point_problem(y, physics)`` and the
        attribute ``DEQ``, which holds its solver, adjoint, layers and
        ``on_failure``.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param bool differentiable: whether the caller differentiates the step.
    :return: :math:`(f, x_0)`.
    :raises TypeError: if the method or the attribute is missing, or if the method needs
        another argument.
    :raises ValueError: if ``model.DEQ`` is ``None``; if the model or the physics is
        distributed over several processes; with ``differentiable``,
        if the model contains deepinv's ``GSPnP`` with ``detach=True``, whose derivative
        is not the derivative of its values.
    """
    name = type(model).__name__
    method = getattr(model, "fixed_point_problem", None)
    if method is None or not hasattr(model, "DEQ"):
        raise TypeError(
            "model must solve a fixed-point problem, such as deq.optim.PGD(..., "
            "DEQ=deq.Equilibrium()), or have the method fixed_point_problem(y, "
            f"physics) and the attribute DEQ; got {name}."
        )
    if model.DEQ is None:
        raise ValueError(
            f"model is a {name} that solves no fixed-point problem; build it with "
            "DEQ=deq.Equilibrium(...) or DEQ=deq.ReTune(...)."
        )
    try:
        inspect.signature(method).bind(y, physics)
    except TypeError as error:
        raise TypeError(
            f"{name}.fixed_point_problem must accept (y, physics), but {error}; give "
            "every further argument, such as init, a default value (the optimisers "
            "take custom_init in their constructor)."
        ) from error
    modules = model.named_modules() if isinstance(model, nn.Module) else ()
    for path, module in modules if differentiable else ():
        if isinstance(module, GSPnP) and module.detach:
            raise ValueError(
                f"the gradient-step denoiser {path!r} detaches its gradient, so that "
                "its derivative is wrong; set its attribute detach to False."
            )
    require_one_process(model, physics)
    check_input = getattr(model, "check_input", None)
    if check_input is not None:  # an EquilibriumModel checks y and physics
        check_input(y, physics)
    step, x0 = method(y, physics)
    return step, x0
