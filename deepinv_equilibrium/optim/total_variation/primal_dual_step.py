"""Primal-dual iterations for least squares with total variation, and their gradient."""

from __future__ import annotations

from dataclasses import replace

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from ...equilibrium.measured_physics import MeasuredPhysics
from ...fixed_points import Implicit, OnFailure, Solution, State
from .image_differences import differences, differences_adjoint
from .implicit_gradient import Jumps, PiecewiseConstantStep, attach_implicit_gradient
from .tv_groups import TVNorm, project, radii_and_ratios

# The residual of one iteration is how far an image moves, which is less than its error.
_ERROR_PER_RESIDUAL = 10.0


class PrimalDualTVStep:
    r"""
    A block of primal-dual iterations for
    :math:`\min_x \tfrac12 \|A x - y\|^2 + \|\Lambda D x\|_{2, 1}`, or with the
    componentwise norm,

    .. math::

        \begin{aligned}
        z &= x_k - \tau A^\top (A x_k - y), \\
        p_{k+1} &= \operatorname{proj}_{\|p_i\| \leq \bar\lambda_i} \left( p_k + \sigma
        S D (z - \tau D^\top S p_k) \right), \\
        x_{k+1} &= z - \tau D^\top S p_{k+1},
        \end{aligned}

    with :math:`\Lambda = \bar\lambda S`, radii and ratios in :math:`[0, 1]`
    :footcite:p:`loris2011generalization,chen2013primal`. The iterations converge for
    :math:`\tau \|A\|^2 < 2` and :math:`\sigma \tau \|D\|^2 < 1`, for every weight,
    because the ratios do not exceed 1. The fixed points are the minimisers with their
    dual fields.

    :footcite:t:`kofler2023learning` also dualise the data fidelity, which needs
    :math:`\sigma \tau (\|A\|^2 + \|D\|^2) < 1`. Here the state does not contain a
    measurement, and :math:`\|D\|` is known exactly. For :math:`A = I` and
    :math:`\tau = 1` an iteration is projected gradient ascent on the dual.

    On flat regions the dual is not unique, so the step does not contract and no rate is
    claimed.

    :param torch.Tensor y: the measurement.
    :param deepinv.physics.LinearPhysics physics: the physics.
    :param torch.Tensor weight: :math:`\Lambda`, with the axes of the differences.
    :param str norm: ``"isotropic"`` or ``"componentwise"``.
    :param torch.Tensor tau: :math:`\tau`, without axes.
    :param torch.Tensor sigma: :math:`\sigma`, without axes.
    :param int layers: number of iterations in the block.
    """

    def __init__(
        self,
        y: Tensor,
        physics: LinearPhysics,
        weight: Tensor,
        norm: TVNorm,
        tau: Tensor,
        sigma: Tensor,
        layers: int = 1,
    ):
        self.y, self.weight, self.norm, self.layers = y, weight, norm, layers
        self.measured = MeasuredPhysics(physics, y)
        self.physics = self.measured.physics
        self.radius, self.ratio = radii_and_ratios(weight, norm)
        self.tau, self.sigma = tau, sigma

    def __call__(self, state: State) -> State:
        """Return the image and the dual after the block."""
        assert isinstance(state, tuple)
        x, p = state
        if torch.is_grad_enabled():
            self.measured.start_recording()
        at_y = self.physics.A_adjoint(self.y)
        for _ in range(self.layers):
            z = x - self.tau * (self.physics.A_adjoint_A(x) - at_y)
            x, p = self._total_variation(z, p)
        return x, p

    def _total_variation(self, z: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        pulled = p if self.ratio is None else p * self.ratio
        field = differences(z - self.tau * differences_adjoint(pulled))
        if self.ratio is not None:
            field = field * self.ratio
        p = project(p + self.sigma * field, self.radius, self.norm)
        pulled = p if self.ratio is None else p * self.ratio
        return z - self.tau * differences_adjoint(pulled), p


def with_implicit_gradient(
    step: PrimalDualTVStep,
    solution: Solution,
    adjoint: Implicit,
    on_failure: OnFailure,
) -> Solution:
    r"""
    Return the minimiser that primal-dual iterations found, with its implicit gradient.

    :class:`~deepinv_equilibrium.optim.total_variation.PiecewiseConstantStep` takes the
    gradient with respect to the image. With respect to the state, image and dual, the
    adjoint system would be singular, because the dual is not unique.

    :param PrimalDualTVStep step: the step of the iterations.
    :param deepinv_equilibrium.Solution solution: its fixed point, image and dual,
        without gradient.
    :param deepinv_equilibrium.Implicit adjoint: its solver solves the adjoint system.
    :param str on_failure: what to do if the adjoint system is not solved.
    :return: (deepinv_equilibrium.Solution) the solution; ``output`` is the image with
        its gradient.
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
