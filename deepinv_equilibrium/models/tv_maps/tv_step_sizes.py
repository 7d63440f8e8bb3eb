"""Trained step sizes with which the primal-dual iterations converge."""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from ...certificates.spectra.operator_norm import OperatorNorm
from ...optim.total_variation.image_differences import differences_norm_squared
from .positivity import BoundedSigmoid


class TVStepSizes(nn.Module):
    r"""
    The step sizes of
    :class:`~deepinv_equilibrium.optim.total_variation.PrimalDualTVStep`,

    .. math::

        \tau = \frac{1.98\, s_1}{\|A\|^2}, \qquad
        \sigma = \frac{0.99\, s_2}{\tau \|D\|^2}, \qquad s_1, s_2 \in [10^{-6}, 1],

    where :math:`s_1` and :math:`s_2` are sigmoids of two trained numbers. Therefore
    :math:`\tau \|A\|^2 < 2` and :math:`\sigma \tau \|D\|^2 < 1` for all values of these
    numbers. The norm of :math:`D` is exact;
    :class:`~deepinv_equilibrium.certificates.spectra.OperatorNorm` bounds the norm of
    :math:`A`. If each sample has its own operator, the largest norm determines the step
    sizes of all samples.

    :param float stepsize: initial value of :math:`\tau \|A\|^2`, in (0, 1.98).
    :raises ValueError: if ``stepsize`` is out of its range.
    """

    def __init__(self, stepsize: float = 1.0) -> None:
        super().__init__()
        self.primal, self.dual = BoundedSigmoid(1.98), BoundedSigmoid(0.99)
        if not 1.98e-6 < stepsize < 1.98:
            raise ValueError(
                "stepsize is tau times the squared norm of the physics, and must be "
                f"between 2e-6 and 1.98, got {stepsize!r}."
            )
        self.raw_primal = nn.Parameter(torch.tensor(self.primal.initial(stepsize)))
        self.raw_dual = nn.Parameter(torch.tensor(self.dual.initial(0.98)))
        self._norm = OperatorNorm()

    def forward(self, physics: LinearPhysics, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""
        Return the step sizes for a physics.

        :param deepinv.physics.LinearPhysics physics: the physics.
        :param torch.Tensor x: images on which the physics acts. Only their shape, dtype
            and device are used.
        :return: (tuple) :math:`\tau` and :math:`\sigma`, without axes, in the precision
            of ``x``.
        :raises AdjointMismatchError: if ``A_adjoint`` is not the transpose of ``A``.
        """
        bound = self._norm.squared(physics, x).value
        dtype = x.real.dtype
        tau = self.primal(self.raw_primal.to(dtype)) / bound
        scale = differences_norm_squared(x.shape[2:]) or 1.0
        return tau, self.dual(self.raw_dual.to(dtype)) / (tau * scale)
