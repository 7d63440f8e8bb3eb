"""What can be said of the rate of a model that cannot be certified."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from deepinv.physics import Physics
from torch import Tensor

from ..certificates import Bound, largest_eigenvalue
from ..certificates.bounds import derived
from ..certificates.gradients.state_jacobian import StateJacobian
from ..fixed_points import State, StateLayout, fixed_point
from .asked_model import fixed_point_problem, refuse_detached


def estimate_rate(
    model: Any,
    y: Tensor,
    physics: Physics,
    point: State | None = None,
    *,
    steps: int = 60,
    delta: float = 1e-3,
    generator: torch.Generator | None = None,
) -> Bound:
    r"""
    Estimate the local rate :math:`\|J\|` of a model's step :math:`f`, with
    :math:`J = \partial f(x)` at the model's solution for a measurement.

    The value is above the largest singular value of :math:`J` except with probability
    ``delta``: Lanczos' method on :math:`J^\top J` from a random start, and the theorem
    of :footcite:t:`kuczynski1992estimating`, see
    :func:`largest_eigenvalue <deepinv_equilibrium.certificates.largest_eigenvalue>`.
    Three things make it an estimate, whatever the model: that probability, rounding in
    the model's precision, and that it holds at one point. A value below 1 says that the
    step contracts near that solution in the norm of its state (ADMM, PDCP and FISTA may
    converge in another norm where it is above 1); of other points, other measurements
    and of convergence it proves nothing. For a rate that holds everywhere the model
    needs a certified denoiser.

    Samples do not mix, so that :math:`J` of a batch is block diagonal and its norm the
    largest of the samples': it is estimated at once. That keeps ``steps`` batches in
    float64; take fewer images where they do not fit.

    :param model: an optimiser of :mod:`deepinv_equilibrium.optim` with ``DEQ``, or
        another model with ``fixed_point_problem`` and ``equilibrium``.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param torch.Tensor, tuple point: the state to take :math:`J` at. Default: ``None``,
        the solution, which is computed with the model's solver.
    :param int steps: Lanczos steps, with two backward passes each.
    :param float delta: probability that the value is too small, in (0, 1).
    :param torch.Generator generator: draws the start. Default: torch's own.
    :return: (Bound) the estimate, with its ``delta`` and the ``point``.
    :raises TypeError: if the model solves no fixed-point problem.
    :raises ValueError: if the point is no state of the model, an argument is out of
        range, or the step cannot be differentiated (deepinv's ``GSPnP`` with
        ``detach=True``).
    """
    step, x0 = fixed_point_problem(model, y, physics)
    where = "a given state"
    if point is None:
        config = model.equilibrium
        with torch.no_grad():
            solution = fixed_point(
                step, x0, config.solver, config.adjoint, config.on_failure
            )
        point = solution.x
        residual = float(solution.residual.max())
        where = f"the solution of this measurement (residual {residual:.1e})"
    elif StateLayout.of(point, "point") != StateLayout.of(x0):
        raise ValueError(
            f"point must be a state of the model, {StateLayout.of(x0)}; got "
            f"{StateLayout.of(point)}."
        )
    refuse_detached(model)
    jacobian = StateJacobian(step, point)

    def gram(v: Tensor) -> Tensor:
        return jacobian.adjoint(jacobian.product(v.to(jacobian.x.dtype))).detach()

    square = largest_eigenvalue(
        gram,
        jacobian.x.shape,
        steps=steps,
        delta=delta,
        generator=generator,
        device=jacobian.x.device,
    )
    source = f"norm of the step's Jacobian, {square.source}"
    return replace(derived(math.sqrt(square.value), (square,), source), point=where)
