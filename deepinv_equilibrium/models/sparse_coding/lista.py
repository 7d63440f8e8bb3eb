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
from ...fixed_points.argument_checks import require_count
from .frames import DenseFrame, backprojection
from .ista_step import log_thresholds, per_layer, require_relative, soft_threshold


class LISTA(Reconstructor):
    r"""
    Learned ISTA :footcite:p:`gregor2010learning`: :math:`K` layers

    .. math::

        z_{k+1} = \mathcal{T}_{\theta_k}\left(W_t^k z_k + W_e^k y\right), \qquad
        z_0 = 0, \quad \hat x = W^\top z_K,

    with learned matrices and one learned threshold for every atom and layer, either of
    their own (:math:`W_t^k, W_e^k, \theta_k`) or tied (:math:`W_t, W_e, \theta`), a
    recurrent network. It starts as :math:`K` iterations of
    :class:`~deepinv_equilibrium.models.ISTA` in the frame for a physics, exactly:

    .. math::

        W_t = I - \tau B^\top B, \qquad W_e = \tau B^\top, \qquad
        \theta = \tau \lambda, \qquad B = A W^\top,

    after which it knows no physics: :math:`A` is learned with the matrices. Of the step
    sizes :math:`\tau_k` and weights :math:`\lambda_k` of a layer only their product
    acts, and is what is learned. The frame :math:`W^\top` that makes an image of the
    coefficients is learned too; for sparse coding, where these are the result, it is an
    identity that is frozen.

    Signals have one size. For images of any size there is
    :class:`~deepinv_equilibrium.models.ConvolutionalLISTA`.

    :param DenseFrame frame: :math:`W` to start from; it is copied, frozen or not.
    :param deepinv.physics.LinearPhysics physics: :math:`A` to start from.
    :param float, Sequence, torch.Tensor weight: :math:`\lambda \geq 0` to start from,
        one or one for every atom; where it is 0 the thresholds stay 0.
    :param int layers: :math:`K`.
    :param bool tied: whether all layers share their weights.
    :param float stepsize: :math:`s` of the ISTA to start from, in (0, 2).
    :raises TypeError: if ``frame`` is no ``DenseFrame``, or the physics is not linear.
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
                "physics must be a deepinv LinearPhysics, of which the matrices start, "
                f"got {type(physics).__name__}."
            )
        self.layers, self.tied = layers, tied
        self.frame = copy.deepcopy(frame)
        require_relative(stepsize)
        own = 1 if tied else layers
        with torch.no_grad():
            measured = physics.A(frame.matrix.unflatten(1, frame.img_size))
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
        """Return what the representation shows first."""
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
        :param deepinv.physics.Physics physics: not used: the matrices have learned one.
        :return: (:class:`torch.Tensor`) images of the size that the frame is for.
        :raises TypeError: if an argument is unknown.
        :raises ValueError: if ``y`` has another size than the measurements of the
            physics to start from, or is not real and finite.
        """
        if kwargs:
            raise TypeError(f"LISTA takes no argument {next(iter(kwargs))!r}.")
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
