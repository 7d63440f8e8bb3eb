"""Learned iterative soft thresholding with matrices."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from deepinv.models import Reconstructor
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from ...certificates.spectra.operator_norm import OperatorNorm
from ...equilibrium.input_checks import require_measurement
from ...fixed_points.argument_checks import refuse_unknown, require_count
from .frames import DenseFrame, backprojection
from .ista_step import log_thresholds, per_layer, require_relative, soft_threshold


class LISTA(Reconstructor):
    r"""
    Learned ISTA :footcite:p:`gregor2010learning`: :math:`K` layers

    .. math::

        z_{k+1} = \mathcal{T}_{\theta_k}\left(W_t^k z_k + W_e^k y\right), \qquad
        z_0 = 0, \quad \hat x = W^\top z_K,

    with learned matrices and one learned threshold for each atom. Each layer has its
    own weights (:math:`W_t^k, W_e^k, \theta_k`), or all layers share them (:math:`W_t,
    W_e, \theta`), which is a recurrent network. Before training, the network computes
    exactly :math:`K` iterations of :class:`~deepinv_equilibrium.models.ISTA` for a
    frame and a physics:

    .. math::

        W_t = I - \tau B^\top B, \qquad W_e = \tau B^\top, \qquad
        \theta = \tau \lambda, \qquad B = A W^\top.

    The physics is used for this initialisation only. A layer depends on its step size
    :math:`\tau_k` and its weight :math:`\lambda_k` through their product alone, which
    is the learned threshold. The synthesis :math:`W^\top` is learned too. For sparse
    coding, whose result is the coefficients, give a frozen identity as the frame.

    The network is for signals of one size. Use
    :class:`~deepinv_equilibrium.models.ConvolutionalLISTA` for images of any size.

    :param DenseFrame frame: initial value of :math:`W`. It is copied, and a frozen
        frame stays frozen.
    :param deepinv.physics.LinearPhysics physics: physics whose :math:`A` initialises
        the matrices.
    :param float, Sequence, torch.Tensor weight: initial value of :math:`\lambda \geq
        0`, one for all atoms or one for each. Where it is 0, the thresholds stay 0.
    :param int layers: number of layers :math:`K`.
    :param bool tied: whether all layers share their weights.
    :param float stepsize: step size :math:`s` in (0, 2) of the ISTA that initialises
        the network.
    :raises TypeError: if ``frame`` is not a ``DenseFrame``, or the physics is not
        linear.
    :raises ValueError: if an argument is out of its range.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> physics = dinv.physics.CompressedSensing(m=20, img_size=(1, 6, 6))
    >>> frame = deq.models.DenseFrame(torch.eye(36), img_size=(1, 6, 6))
    >>> model = deq.models.LISTA(frame.requires_grad_(False), physics, weight=0.1)
    >>> model(physics(torch.rand(2, 1, 6, 6)), physics).shape
    torch.Size([2, 1, 6, 6])
    """

    def __init__(
        self,
        frame: DenseFrame,
        physics: LinearPhysics,
        weight: float | Sequence[float] | Tensor,
        layers: int = 8,
        tied: bool = False,
        stepsize: float = 1.0,
    ) -> None:
        super().__init__()
        if not isinstance(frame, DenseFrame):
            raise TypeError(
                f"frame must be a DenseFrame, got {type(frame).__name__}; for filters "
                "use ConvolutionalLISTA."
            )
        require_count("layers", layers, 1)
        if not isinstance(physics, LinearPhysics):
            raise TypeError(
                "physics must be a deepinv LinearPhysics, which initialises the "
                f"matrices, got {type(physics).__name__}."
            )
        self.layers, self.tied = layers, tied
        self.frame = copy.deepcopy(frame)
        require_relative(stepsize)
        own = 1 if tied else layers
        with torch.no_grad():
            measured = physics.A(frame.matrix.unflatten(1, frame.img_size))
            _require_one_tensor("the measurements of physics", measured)
            image = backprojection(measured, physics)
            norm = OperatorNorm().squared(physics, image).value
            tau = stepsize / (norm * frame.squared_norm())
            B = measured.flatten(1).mT
            eye = torch.eye(frame.atoms, dtype=B.dtype, device=B.device)
            start = log_thresholds("weight", weight, frame.atoms).to(tau) + tau.log()
        self.measurement_size = measured.shape[1:]
        self.transition = per_layer(eye - tau * B.mT @ B, own)
        self.encoder = per_layer(tau * B.mT, own)
        self.log_threshold = per_layer(start.to(B), own)

    def extra_repr(self) -> str:
        """Return the part of the representation that precedes the modules."""
        return (
            f"measurement_size={tuple(self.measurement_size)}, layers={self.layers}, "
            f"tied={self.tied}"
        )

    def forward(
        self, y: Tensor, physics: Physics | None = None, **kwargs: Any
    ) -> Tensor:
        r"""
        Reconstruct.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: not used, because the matrices take its
            place.
        :return: (:class:`torch.Tensor`) images of the size of the frame.
        :raises TypeError: if ``y`` is not a tensor, or an argument is unknown.
        :raises ValueError: if ``y`` is not real and finite, or has another size than
            the measurements of the physics that initialised the network.
        """
        refuse_unknown(type(self).__name__, kwargs, ("y", "physics"))
        require_measurement(y)
        _require_one_tensor("y", y)
        if y.shape[1:] != self.measurement_size or not y.is_floating_point():
            raise ValueError(
                f"y must be a real tensor of shape (B, *{tuple(self.measurement_size)})"
                f", got {y.dtype} of shape {tuple(y.shape)}."
            )
        if not bool(torch.isfinite(y).all()):
            raise ValueError("y has NaN or infinite values; leave those samples out.")
        flat, z = y.flatten(1), y.new_zeros(len(y), self.frame.atoms)
        thresholds = self.log_threshold.exp()
        for k in range(self.layers):
            own = 0 if self.tied else k
            step = flat @ self.encoder[own].to(y.dtype).mT
            z = z @ self.transition[own].to(y.dtype).mT + step
            z = soft_threshold(z, thresholds[own])
        return self.frame.synthesis(z)


def _require_one_tensor(name: str, y: Any) -> None:
    """Raise if the measurement is a list, as that of a stacked physics."""
    if not isinstance(y, Tensor):
        raise TypeError(
            f"{name} must be one tensor, because the matrices of LISTA multiply it, "
            f"got {type(y).__name__}: for a stacked physics use ISTA or "
            "ConvolutionalLISTA."
        )
