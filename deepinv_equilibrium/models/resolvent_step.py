"""The step of equilibrium regularisation."""

from __future__ import annotations

import torch
from deepinv.models import Denoiser
from deepinv.physics import LinearPhysics
from torch import Tensor

from ..fixed_points import State
from ..optim import Equilibrium
from ..optim.measured_physics import MeasuredPhysics


class ResolventStep:
    r"""
    :math:`x \mapsto (A^* A + \alpha I)^{-1} (A^* y + \alpha N_\sigma(x))`, as often as
    the block has layers.

    :param deepinv.models.Denoiser denoiser: :math:`N`.
    :param float sigma_denoiser: :math:`\sigma`.
    :param torch.Tensor log_alpha: :math:`\log \alpha`, a number.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.LinearPhysics physics: its physics.
    :param deepinv_equilibrium.Equilibrium config: has the number of layers, and what to
        do where the inverse is solved iteratively and cut off.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        sigma_denoiser: float,
        log_alpha: Tensor,
        y: Tensor,
        physics: LinearPhysics,
        config: Equilibrium,
    ) -> None:
        self.denoiser = denoiser
        self.sigma_denoiser = sigma_denoiser
        self.log_alpha = log_alpha
        self.y = y
        self.measured = MeasuredPhysics(physics, y, config.on_failure)
        self.physics = self.measured.physics
        self.layers = config.layers

    def __call__(self, state: State) -> State:
        """The image after the block."""
        assert isinstance(state, Tensor)
        x = state
        if torch.is_grad_enabled():
            self.measured.start_recording()
        gamma = torch.exp(-self.log_alpha).to(x)
        for _ in range(self.layers):
            denoised = self.denoiser(x, self.sigma_denoiser)
            x = self.physics.prox_l2(denoised, self.y, gamma)
        return x
