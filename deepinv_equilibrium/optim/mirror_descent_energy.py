"""The energy of a Poisson likelihood and a prior, and mirror descent on it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from deepinv.optim import Prior
from deepinv.physics import LinearPhysics
from torch import Tensor

from ..certificates.step_jacobians import sample_norms
from ..fixed_points import State
from .kullback_leibler import KullbackLeibler
from .value_and_gradient import value_and_gradient


@dataclass(frozen=True)
class MirrorDescentEnergy:
    r"""
    :math:`F(x) = \operatorname{KL}(c, (A x + b) / \gamma) + \lambda g_\sigma(x)` on the
    box :math:`[l, u]^n`, with the steps of mirror descent with Burg's entropy.

    :param KullbackLeibler data_fidelity: the divergence.
    :param deepinv.optim.Prior prior: :math:`g`, differentiable.
    :param float g_param: :math:`\sigma`, which the prior is given; ``None`` if none.
    :param float weight: :math:`\lambda`.
    :param tuple bounds: :math:`(l, u)`.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.LinearPhysics physics: its physics.
    """

    data_fidelity: KullbackLeibler
    prior: Prior
    g_param: float | None
    weight: float
    bounds: tuple[float, float]
    y: Tensor
    physics: LinearPhysics

    def start(self) -> Tensor:
        r""":math:`A^\top y`, scaled so that :math:`A x` has as much light as
        :math:`y`, in the box. Dark measurements start at its lower end."""
        y = self.data_fidelity.normalized(self.y, self.physics)
        x = self.physics.A_adjoint(y)
        light, projected = (
            v.flatten(1).sum(dim=1).reshape(-1, *[1] * (x.ndim - 1))
            for v in (y, self.physics.A(x))
        )
        bright = projected > 0
        scale = torch.where(bright, light / torch.where(bright, projected, 1), 1)
        return (scale * x).clamp(*self.bounds)

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""
        :param torch.Tensor x: positive images, of shape :math:`(B, ...)`.
        :return: :math:`F(x)` in float64, of shape :math:`(B,)` and without gradient,
            and :math:`\nabla F(x)`, recorded where gradients are enabled.
        """
        fidelity = self.data_fidelity.grad(x, self.y, self.physics)
        prior, gradient = value_and_gradient(self._prior, x)
        with torch.no_grad():
            value = self.data_fidelity(x, self.y, self.physics).double()
        return value + prior, fidelity + gradient

    def step(self, x: Tensor, gradient: Tensor, tau: Tensor) -> Tensor:
        r"""
        The minimiser of :math:`\langle \nabla F(x), z \rangle + D_h(z, x) / \tau` over
        :math:`z` in the box, which is that over :math:`z > 0`, clipped; where there is
        none, because the function decreases all along, the upper end.

        :param torch.Tensor x: positive images.
        :param torch.Tensor gradient: :math:`\nabla F(x)`.
        :param torch.Tensor tau: :math:`\tau`, one a sample, to be broadcast.
        """
        denominator = 1 + tau * x * gradient
        # NaN is kept, so that it is seen.
        unbounded = denominator <= 0
        quotient = x / torch.where(unbounded, 1, denominator)
        lower, upper = self.bounds
        return torch.where(unbounded, upper, quotient.clamp(lower, upper))

    def divergence(self, trial: Tensor, x: Tensor) -> Tensor:
        r"""The divergence of Burg's entropy, of Itakura and Saito,
        :math:`D_h(x^+, x) = \sum_i x^+_i / x_i - \log(x^+_i / x_i) - 1`."""
        change = ((trial - x) / x).double()
        return (change - torch.log1p(change)).flatten(1).sum(dim=1)

    def residual(self, trial: Tensor, x: Tensor, tau: Tensor) -> Tensor:
        r""":math:`\|x^+ - x\|`. It is that of the step that is made: in :math:`\tau` it
        is neither increasing nor decreasing."""
        return sample_norms(trial - x)

    def domain(self, state: State) -> Tensor:
        """Positive images."""
        assert isinstance(state, Tensor)
        return (state > 0).flatten(1).all(dim=1)

    def _prior(self, x: Tensor) -> Tensor:
        arguments = () if self.g_param is None else (self.g_param,)
        return self.weight * self.prior(x, *arguments).double()
