"""Iterative soft thresholding of the coefficients of an image in a frame."""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from ...fixed_points import State
from ...fixed_points.solvers.base import require_number
from ...optim.measured_physics import MeasuredPhysics
from .frame import Frame
from .soft_threshold import soft_threshold


class ISTAStep:
    r"""
    A block of iterations of ISTA in the coefficients of a frame,

    .. math::

        z_{k+1} = \mathcal{T}_{\tau \lambda}\left(z_k - \tau W A^\top (A W^\top z_k - y)
        \right) = \mathcal{T}_{\tau \lambda}\left((I - \tau W A^\top A W^\top) z_k
        + \tau W A^\top y\right),

    proximal gradient descent for :math:`\tfrac12 \|A W^\top z - y\|^2 + \lambda
    \|z\|_1` :footcite:p:`daubechies2004iterative`, whose minimisers are its fixed
    points. With :math:`\tau < 2 / \|A W^\top\|^2` it converges, without a rate: the
    step is averaged, and contracts only where :math:`A W^\top` is injective. The image
    is an output of the step.

    :param torch.Tensor y: the measurement.
    :param deepinv.physics.LinearPhysics physics: the physics.
    :param Frame frame: :math:`W`.
    :param torch.Tensor tau: :math:`\tau`, without axes.
    :param torch.Tensor weight: :math:`\lambda`, of shape :math:`(M,)`.
    :param int layers: iterations in the block.
    """

    def __init__(
        self,
        y: Tensor,
        physics: LinearPhysics,
        frame: Frame,
        tau: Tensor,
        weight: Tensor,
        layers: int = 1,
    ):
        self.y, self.frame, self.layers = y, frame, layers
        self.tau, self.threshold = tau, tau * weight
        self.measured = MeasuredPhysics(physics, y)
        self.physics = self.measured.physics

    def __call__(self, state: State) -> State:
        """The coefficients after the block."""
        assert isinstance(state, Tensor)
        if torch.is_grad_enabled():
            self.measured.start_recording()
        z, at_y = state, self.physics.A_adjoint(self.y)
        for _ in range(self.layers):
            gradient = self.physics.A_adjoint_A(self.frame.synthesis(z)) - at_y
            z = z - self.tau * self.frame.analysis(gradient)
            z = soft_threshold(z, self.threshold)
        return z

    def step_and_output(self, state: State) -> tuple[State, Tensor]:
        r"""The coefficients after the block, and their image :math:`W^\top z`."""
        z = self(state)
        assert isinstance(z, Tensor)
        return z, self.frame.synthesis(z)


def require_relative(stepsize: float) -> None:
    """Refuse a step size, times the squared norms, with which nothing converges."""
    require_number("stepsize", stepsize)
    if not 0 < stepsize < 2:
        raise ValueError(
            "stepsize is tau times the squared norms of the physics and the frame, and "
            f"must be between 0 and 2, got {stepsize!r}."
        )
