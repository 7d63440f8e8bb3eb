"""Soft thresholding, and the thresholds that are learned for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from deepinv.optim.prior import L1Prior
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from ...equilibrium.measured_physics import MeasuredPhysics
from ...fixed_points import State
from ...fixed_points.argument_checks import require_number
from .frames import Frame

_L1 = L1Prior()


def soft_threshold(z: Tensor, threshold: Tensor) -> Tensor:
    r"""
    :math:`\operatorname{sign}(z) \max(|z| - \theta, 0)`, the proximal operator of
    :math:`\theta \|\cdot\|_1`.

    :param torch.Tensor z: coefficients of shape :math:`(B, M, ...)`.
    :param torch.Tensor threshold: :math:`\theta`, of shape :math:`(M,)`.
    :return: (:class:`torch.Tensor`) of the shape and precision of ``z``.
    """
    shaped = threshold.to(z.dtype).reshape(-1, *[1] * (z.ndim - 2))
    return _L1.prox(z, gamma=shaped)


def log_thresholds(
    name: str, values: float | Sequence[float] | Tensor, atoms: int
) -> Tensor:
    r"""
    Thresholds as logarithms, to be learned: they stay positive, and where one starts at
    0 its atom is, and stays, unpenalised.

    :param str name: what to call them in an error.
    :param float, Sequence, torch.Tensor values: one for all atoms, or one for each.
    :param int atoms: number of atoms :math:`M`.
    :return: (:class:`torch.Tensor`) of shape :math:`(M,)` and torch's default dtype.
    :raises ValueError: if there are other than 1 or :math:`M`, or one is negative or
        not finite.
    """
    given = torch.as_tensor(values, dtype=torch.get_default_dtype()).detach().flatten()
    if len(given) not in (1, atoms):
        raise ValueError(
            f"{name} must be one number, or one for each of the {atoms} atoms, got "
            f"{len(given)}."
        )
    if not bool((torch.isfinite(given) & (given >= 0)).all()):
        raise ValueError(f"{name} must be nonnegative and finite, got {values!r}.")
    return given.log().expand(atoms).clone()


def per_layer(value: Tensor, layers: int) -> nn.Parameter:
    r"""
    :param torch.Tensor value: where every layer starts.
    :param int layers: number of layers :math:`K`.
    :return: (torch.nn.Parameter) copies, one a layer along a new first axis.
    """
    return nn.Parameter(value.detach().expand(layers, *value.shape).clone())


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
