"""The energy of a gradient-step denoiser, for one measurement."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from deepinv.models.GSPnP import GSPnP
from deepinv.optim import DataFidelity
from deepinv.physics import Physics
from torch import Tensor


@dataclass(frozen=True)
class GradientStepEnergy:
    r"""
    :math:`F(x) = f(x) + \lambda \frac{\alpha}{2} \|x - N_\sigma(x)\|^2`.

    :param deepinv.models.GSPnP.GSPnP denoiser: has :math:`N` and :math:`\alpha`.
    :param deepinv.optim.DataFidelity data_fidelity: :math:`f`.
    :param float sigma: :math:`\sigma`.
    :param float weight: :math:`\lambda`.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    """

    denoiser: GSPnP
    data_fidelity: DataFidelity
    sigma: float
    weight: float
    y: Tensor
    physics: Physics

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""
        :math:`F(x)`, and :math:`\lambda \nabla g_\sigma(x)` by automatic
        differentiation of the energy itself.

        :param torch.Tensor x: images, of shape :math:`(B, ...)`.
        :return: the energies in float64, of shape :math:`(B,)` and without gradient,
            and the gradients of the prior, recorded where gradients are enabled.
        """
        record = torch.is_grad_enabled()
        with torch.enable_grad():
            if not x.requires_grad:
                x = x.detach().requires_grad_()
            gap = x - self.denoiser.student_grad(x, self.sigma)
            factor = 0.5 * self.weight * self.denoiser.alpha
            prior = factor * gap.double().square().flatten(1).sum(dim=1)
            (gradient,) = torch.autograd.grad(prior.sum(), x, create_graph=record)
        with torch.no_grad():
            energy = prior + self.data_fidelity(x, self.y, self.physics).double()
        return energy.detach(), gradient

    def step(self, x: Tensor, gradient: Tensor, tau: Tensor) -> Tensor:
        r"""
        :math:`\operatorname{prox}_{\tau f}(x - \tau \lambda \nabla g_\sigma(x))`.

        :param torch.Tensor x: images.
        :param torch.Tensor gradient: :math:`\lambda \nabla g_\sigma(x)`.
        :param torch.Tensor tau: :math:`\tau`, one a sample, to be broadcast.
        """
        z = x - tau * gradient
        return self.data_fidelity.prox(z, self.y, self.physics, gamma=tau)
