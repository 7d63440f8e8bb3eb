"""The minimiser with weighted total variation, with the gradient that was asked for."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...equilibrium import Equilibrium
from ...fixed_points import Implicit, Solution, State, fixed_point
from ...fixed_points.solve import StateObserver
from .implicit_gradient import Jumps, PiecewiseConstantStep, attach_implicit_gradient
from .primal_dual_step import PrimalDualTVStep

# The residual of one iteration says how far an image moves, not how far it has to go.
_ERROR_PER_RESIDUAL = 10.0


def find_minimiser(
    step: PrimalDualTVStep,
    start: State,
    config: Equilibrium,
    observer: StateObserver | None = None,
) -> tuple[Tensor, Solution]:
    r"""
    Run primal-dual iterations as a configuration says, and differentiate what they find
    as it says.

    The implicit gradient is taken in the image, by
    :class:`~deepinv_equilibrium.optim.total_variation.PiecewiseConstantStep`: in the
    state, image and dual, its system would be singular, as the dual is not unique.

    :param PrimalDualTVStep step: the iterations.
    :param tuple start: image and dual to start from.
    :param deepinv_equilibrium.Equilibrium config: solver and adjoint.
    :param Callable observer: called after every evaluation of the step.
    :return: the image with its gradient, and the solution, without.
    :raises ConvergenceError: if a sample fails and ``on_failure="raise"``.
    """
    implicit = isinstance(config.adjoint, Implicit)
    with torch.set_grad_enabled(torch.is_grad_enabled() and not implicit):
        solution = fixed_point(
            step, start, config.solver, config.adjoint, config.on_failure, observer
        )
    assert isinstance(solution.x, tuple)
    x = solution.x[0]
    if implicit and torch.is_grad_enabled():
        found = _differentiable(step, solution, config)
        assert found.output is not None
        # Its report is written when the backward runs.
        return found.output, replace(solution, _backward=found._backward).detach()
    return x, solution.detach()


def _differentiable(
    step: PrimalDualTVStep, solution: Solution, config: Equilibrium
) -> Solution:
    """The image with the gradient of the implicit function theorem."""
    assert isinstance(config.adjoint, Implicit)
    assert isinstance(solution.x, tuple)
    x, dual = solution.x
    physics, y = step.measured.original, step.y
    error = _ERROR_PER_RESIDUAL * solution.absolute_residual
    smooth = PiecewiseConstantStep(
        x,
        lambda x: physics.A_adjoint(physics.A(x) - y),
        step.weight,
        step.norm,
        Jumps.of(x, dual, step.weight, step.norm, error),
    )
    return attach_implicit_gradient(smooth, config.adjoint, config.on_failure)
