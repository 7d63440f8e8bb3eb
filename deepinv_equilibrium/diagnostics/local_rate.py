"""An estimate of the local rate of a model that cannot be certified."""

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
from .fixed_point_models import fixed_point_problem


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
    Estimate the local rate :math:`\|J\|` of a model's step :math:`f`, where
    :math:`J = \partial f(x)` is the Jacobian at the solution :math:`x` for a
    measurement.

    The value is above the largest singular value of :math:`J` except with probability
    ``delta``. It comes from Lanczos' method on :math:`J^\top J` with a random start and
    the theorem of :footcite:t:`kuczynski1992estimating`; see
    :func:`largest_eigenvalue <deepinv_equilibrium.certificates.largest_eigenvalue>`.

    The value is an estimate for three reasons: it may be too small with probability
    ``delta``, it is rounded in the precision of the model, and it holds at one point. A
    value below 1 says that the step contracts near this solution in the norm of its
    state. ADMM, PDCP and FISTA may converge in another norm although the value is above
    1. The value proves nothing about other points, other measurements or convergence. A
    rate that holds everywhere needs a certified denoiser.

    Steps do not mix samples, so the Jacobian of a batch is block diagonal and its norm
    is the largest of the samples' norms: one estimate serves the whole batch. The
    method stores ``steps`` vectors of the size of the batch in float64; pass fewer
    images if they do not fit into memory.

    :param model: a model of this package with ``DEQ``, or another one with
        ``fixed_point_problem(y, physics)`` and ``DEQ``.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param torch.Tensor, tuple point: the state :math:`x` at which :math:`J` is taken.
        Default: ``None``, the solution, computed with the solver of the model.
    :param int steps: number of Lanczos steps, each of two backward passes.
    :param float delta: probability that the value is too small, in (0, 1).
    :param torch.Generator generator: draws the start. Default: ``None``, torch's global
        generator.
    :return: (Bound) the estimate, with its ``delta`` and ``point``.
    :raises TypeError: if the model solves no fixed-point problem.
    :raises ValueError: if the model was built without ``DEQ``, ``point`` does not have
        the shapes and types of the model's state, an argument is out of its range, or
        the step cannot be differentiated (deepinv's ``GSPnP`` with ``detach=True``).
    """
    step, x0 = fixed_point_problem(model, y, physics, differentiable=True)
    where = "a given state"
    if point is None:
        config = model.DEQ
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
