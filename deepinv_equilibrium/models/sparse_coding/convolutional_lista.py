"""Learned iterative soft thresholding with filters, for any linear physics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from deepinv.models import Reconstructor
from deepinv.physics import LinearPhysics
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from ...certificates.spectra.operator_norm import OperatorNorm
from ...equilibrium.input_checks import check_images
from ...fixed_points.argument_checks import refuse_unknown, require_count
from .frames import ConvolutionalFrame, backprojection
from .ista_step import log_thresholds, per_layer, require_relative, soft_threshold


class ConvolutionalLISTA(Reconstructor):
    r"""
    Learned ISTA :footcite:p:`gregor2010learning` with filters
    :footcite:p:`sreter2018learned`: :math:`K` layers

    .. math::

        z_{k+1} = \mathcal{T}_{\theta_k / \|A\|^2}\left(z_k - \tfrac{1}{\|A\|^2}
        E_k A^\top (A S_k z_k - y)\right), \qquad z_0 = 0, \quad \hat x = S_K z_K,

    that is :math:`W_t^k = I - E_k A^\top A S_k / \|A\|^2` and :math:`W_e^k = E_k
    A^\top / \|A\|^2`. The analysis filters :math:`E_k`, the synthesis filters
    :math:`S_k` and a threshold for each atom are learned. Each layer has its own, or
    all layers share them (:math:`E, S, \theta`), which is a recurrent network. Before
    training, the network computes exactly :math:`K` iterations of
    :class:`~deepinv_equilibrium.models.ISTA` in the frame: :math:`E_k = \tau W`,
    :math:`S_k = W^\top`, :math:`\theta_k = \tau \lambda`, :math:`\tau = s /
    \|W\|^2`.

    A learned convolution in the place of all of :math:`W_t^k` would have
    :math:`M^2 (2 k - 1)^2` weights, and would be correct for a single blur and away
    from the borders only. This form has :math:`2 M C k^2` weights, and accepts any
    linear physics and image size. For denoising, :math:`A = I`, it is the network of
    :footcite:t:`sreter2018learned`. A network trained with one physics runs with
    another, but its weights are adapted to the first.

    :param ConvolutionalFrame frame: initial value of :math:`W`; it is not changed.
    :param float, Sequence, torch.Tensor weight: initial value of :math:`\lambda \geq
        0`, one for all atoms or one for each. Where it is 0, the thresholds stay 0.
    :param int layers: number of layers :math:`K`.
    :param bool tied: whether all layers share their filters and thresholds.
    :param float stepsize: step size :math:`s` in (0, 2) of the ISTA that initialises
        the network.
    :raises TypeError: if ``frame`` is not a ``ConvolutionalFrame``.
    :raises ValueError: if an argument is out of its range.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> frame = deq.models.ConvolutionalFrame(in_channels=3, kernel_size=3)
    >>> model = deq.models.ConvolutionalLISTA(frame, weight=0.02, layers=4)
    >>> physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    >>> model(physics(torch.rand(2, 3, 20, 30)), physics).shape
    torch.Size([2, 3, 20, 30])
    """

    def __init__(
        self,
        frame: ConvolutionalFrame,
        weight: float | Sequence[float] | Tensor,
        layers: int = 8,
        tied: bool = False,
        stepsize: float = 1.0,
    ) -> None:
        super().__init__()
        if not isinstance(frame, ConvolutionalFrame):
            raise TypeError(
                f"frame must be a ConvolutionalFrame, got {type(frame).__name__}; for "
                "a matrix use LISTA."
            )
        require_count("layers", layers, 1)
        require_relative(stepsize)
        self.in_channels, self.layers, self.tied = frame.in_channels, layers, tied
        own = 1 if tied else layers
        filters = frame.filters.detach()
        with torch.no_grad():
            tau = stepsize / frame.squared_norm()
            start = log_thresholds("weight", weight, frame.atoms).to(tau) + tau.log()
        self.analysis = per_layer(tau * filters, own)
        self.synthesis = per_layer(filters, own)
        self.log_threshold = per_layer(start.to(filters), own)
        self._norm = OperatorNorm()

    def extra_repr(self) -> str:
        """Return the part of the representation that precedes the modules."""
        return f"in_channels={self.in_channels}, layers={self.layers}, tied={self.tied}"

    def forward(self, y: Tensor, physics: LinearPhysics, **kwargs: Any) -> Tensor:
        r"""
        Reconstruct.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics, linear.
        :return: (:class:`torch.Tensor`) images of shape :math:`(B, C, H, W)`.
        :raises TypeError: if the physics is not linear, or an argument is unknown.
        :raises ValueError: if ``y`` is not a measurement of ``physics``, or its images
            have another number of channels.
        :raises AdjointMismatchError: if ``A_adjoint`` is not the transpose of ``A``.
        """
        refuse_unknown(type(self).__name__, kwargs, ("y", "physics"))
        at_y = backprojection(y, physics)
        check_images(at_y, self.in_channels)
        norm = self._norm.squared(physics, at_y.detach()).value
        dtype = at_y.dtype
        analysis, synthesis = self.analysis.to(dtype), self.synthesis.to(dtype)
        thresholds = self.log_threshold.exp() / norm
        border = analysis.shape[-1] - 1
        own = 0
        z = conv2d(at_y / norm, analysis[0], padding=border)
        z = soft_threshold(z, thresholds[0])
        for k in range(1, self.layers):
            x = conv_transpose2d(z, synthesis[own], padding=border)
            own = 0 if self.tied else k
            pull = (physics.A_adjoint_A(x) - at_y) / norm
            z = z - conv2d(pull, analysis[own], padding=border)
            z = soft_threshold(z, thresholds[own])
        return conv_transpose2d(z, synthesis[own], padding=border)
