"""The energy of a gradient-step denoiser, for one measurement."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from deepinv.models.GSPnP import GSPnP
from deepinv.optim import DataFidelity
from deepinv.physics import Physics
from torch import Tensor

from ..certificates.step_jacobians import sample_norms
from .measured_physics import adjoint_image
from .value_and_gradient import value_and_gradient


@dataclass(frozen=True)
class GradientStepEnergy:
    r"""
    :math:`F(x) = f(x) + \lambda \frac{\alpha}{2} \|x - N_\sigma(x)\|^2`.

    :param deepinv.models.GSPnP.GSPnP denoiser: has :math:`N` and :math:`\alpha`.
    :param deepinv.optim.DataFidelity data_fidelity: :math:`f`.
    :param float sigma: :math:`\sigma`.
    :param float weight: :math:`\lambda`.
    :param float first_stepsize: :math:`\tau_0`, to which residuals refer.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    """

    denoiser: GSPnP
    data_fidelity: DataFidelity
    sigma: float
    weight: float
    first_stepsize: float
    y: Tensor
    physics: Physics

    def start(self) -> Tensor:
        r""":math:`A^\top y`."""
        return adjoint_image(self.physics, self.y)

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""
        :math:`F(x)`, and :math:`\lambda \nabla g_\sigma(x)` by automatic
        differentiation of the energy itself.

        :param torch.Tensor x: images, of shape :math:`(B, ...)`.
        :return: the energies in float64, of shape :math:`(B,)` and without gradient,
            and the gradients of the prior, recorded where gradients are enabled.
        """
        prior, gradient = value_and_gradient(self._prior, x)
        with torch.no_grad():
            fidelity = self.data_fidelity(x, self.y, self.physics)
        return prior + fidelity.double(), gradient

    def step(self, x: Tensor, gradient: Tensor, tau: Tensor) -> Tensor:
        r"""
        :math:`\operatorname{prox}_{\tau f}(x - \tau \lambda \nabla g_\sigma(x))`.

        :param torch.Tensor x: images.
        :param torch.Tensor gradient: :math:`\lambda \nabla g_\sigma(x)`.
        :param torch.Tensor tau: :math:`\tau`, one a sample, to be broadcast.
        """
        z = x - tau * gradient
        return self.data_fidelity.prox(z, self.y, self.physics, gamma=tau)

    def divergence(self, trial: Tensor, x: Tensor) -> Tensor:
        r""":math:`\|x^+ - x\|^2`."""
        return sample_norms(trial - x).square()

    def residual(self, trial: Tensor, x: Tensor, tau: Tensor) -> Tensor:
        r""":math:`\frac{\tau_0}{\tau} \|x^+ - x\|`, see :class:`Descent
        <deepinv_equilibrium.optim.descent.Descent>`."""
        return sample_norms(trial - x) * self.first_stepsize / tau

    def _prior(self, x: Tensor) -> Tensor:
        r""":math:`\lambda g_\sigma(x)`, summed in float64."""
        gap = x - self.denoiser.student_grad(x, self.sigma)
        factor = 0.5 * self.weight * self.denoiser.alpha
        return factor * gap.double().square().flatten(1).sum(dim=1)
