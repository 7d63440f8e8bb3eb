"""The implicit gradient of a minimiser that primal-dual iterations found."""

from __future__ import annotations

from dataclasses import replace

from ...fixed_points import Implicit, OnFailure, Solution
from .implicit_gradient import Jumps, PiecewiseConstantStep, attach_implicit_gradient
from .primal_dual_step import PrimalDualTVStep

# The residual of one iteration says how far an image moves. Its error is larger.
_ERROR_PER_RESIDUAL = 10.0


def with_implicit_gradient(
    step: PrimalDualTVStep,
    solution: Solution,
    adjoint: Implicit,
    on_failure: OnFailure,
) -> Solution:
    r"""
    Give the minimiser that primal-dual iterations found its implicit gradient.

    The gradient is taken in the image, by
    :class:`~deepinv_equilibrium.optim.total_variation.PiecewiseConstantStep`. In the
    state, image and dual, its linear system would be singular, because the dual is not
    unique.

    :param PrimalDualTVStep step: the iterations.
    :param deepinv_equilibrium.Solution solution: their fixed point, image and dual,
        without gradient.
    :param deepinv_equilibrium.Implicit adjoint: has the solver of the linear system.
    :param str on_failure: what to do where the linear system is not solved.
    :return: (deepinv_equilibrium.Solution) the solution, whose ``output`` is the image
        with its gradient.
    """
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
    found = attach_implicit_gradient(smooth, adjoint, on_failure)
    # The report of the backward is written when it runs.
    return replace(solution, output=found.output, _backward=found._backward)
