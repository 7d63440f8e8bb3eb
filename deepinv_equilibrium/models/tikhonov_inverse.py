"""Tikhonov regularisation with a learned weight."""

from __future__ import annotations

import math
from typing import Any

import torch
from deepinv.models import Reconstructor
from deepinv.physics import LinearPhysics
from torch import Tensor

from ..equilibrium.input_checks import (
    measured_image,
    require_linear,
    require_measurement,
    require_physics,
)
from ..equilibrium.measured_physics import MeasuredPhysics
from ..fixed_points import OnFailure
from ..fixed_points.argument_checks import refuse_unknown, require_number
from ..fixed_points.failures import check_on_failure
from ..optim.trained_parameters import TrainedParameters


class TikhonovInverse(Reconstructor):
    r"""
    The direct inverse with Tikhonov regularisation,

    .. math::

        \hat x = \operatorname*{arg\,min}_x \tfrac12 \|A x - y\|^2
        + \tfrac{\lambda}{2} \|x\|^2 = (A^\top A + \lambda I)^{-1} A^\top y,

    a baseline with one trained number :math:`\lambda > 0`, which is learned as a
    logarithm. For white noise of variance :math:`\sigma^2` and white images of variance
    :math:`s^2` it is Wiener's filter with :math:`\lambda = \sigma^2 / s^2`. For every
    :math:`A` and :math:`\lambda`, a change of the measurement is amplified by at most
    :math:`1 / (2 \sqrt \lambda)`.

    The minimiser has a closed form for some physics (``BlurFFT``, MRI, inpainting,
    ...). Otherwise, conjugate gradients solve for it to the ``tol`` and ``max_iter`` of
    the physics, independently for each sample, and it is differentiated implicitly.

    :param float lambda_reg: initial value of :math:`\lambda`, in units of
        :math:`\|A\|^2`.
    :param str on_failure: what to do if the conjugate gradients do not converge in the
        forward or backward pass: ``"warn"``, ``"raise"`` or ``"ignore"``.
    :raises TypeError: if ``lambda_reg`` is not a number.
    :raises ValueError: if ``lambda_reg`` is not positive and finite, or ``on_failure``
        is unknown.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> model = deq.plugins.create("reconstructors", "tikhonov-inverse", lambda_reg=1.0)
    >>> physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    >>> model(torch.full((1, 1, 1, 2), 3.0), physics).flatten().tolist()
    [1.5, 1.5]
    """

    def __init__(
        self, lambda_reg: float = 0.01, on_failure: OnFailure = "warn"
    ) -> None:
        super().__init__()
        require_number("lambda_reg", lambda_reg)
        if not 0 < lambda_reg < math.inf:
            raise ValueError(
                f"lambda_reg must be positive and finite, got {lambda_reg!r}; without "
                "regularisation it is the physics' A_dagger."
            )
        check_on_failure(on_failure)
        self.lambda_reg = TrainedParameters("lambda_reg", [lambda_reg])
        self.on_failure = on_failure

    def forward(self, y: Tensor, physics: LinearPhysics, **kwargs: Any) -> Tensor:
        r"""
        Reconstruct.

        :param torch.Tensor y: the measurement, of shape :math:`(B, *)`.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: (:class:`torch.Tensor`) images of the shape of :math:`A^\top y`.
        :raises TypeError: if the physics is not linear, ``y`` is not a tensor, or an
            argument is unknown.
        :raises ValueError: if ``y`` is not a measurement of ``physics``.
        :raises ConvergenceError: if a sample does not converge and
            ``on_failure="raise"``.
        """
        refuse_unknown(type(self).__name__, kwargs, ("y", "physics"))
        require_physics(physics, y)
        require_linear(physics)
        require_measurement(y)
        measured = MeasuredPhysics(physics, y, self.on_failure)
        solver = measured.physics
        zero = torch.zeros_like(measured_image(y, solver))
        gamma = 1 / self.lambda_reg[0].to(zero.real.dtype)
        x: Tensor = solver.prox_l2(zero, y, gamma)
        measured.report_unfinished()
        return x
