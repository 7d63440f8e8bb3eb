"""A least-squares data fidelity that is strongly convex whatever the operator."""

from __future__ import annotations

import math
from typing import Any

import torch
from deepinv.optim import L2
from deepinv.physics import Physics
from torch import Tensor


class RidgeL2(L2):
    r"""
    Least squares with a ridge,

    .. math::

        f(x) = \frac{1}{2 \sigma^2} \|Ax - y\|^2 + \frac{\kappa}{2} \|x\|^2 .

    Inpainting, MRI and most blurs have :math:`\mu = \lambda_{\min}(A^\top A) = 0`, or
    as good as: no iteration with a denoiser that is only nonexpansive then has a proved
    rate. Here :math:`\nabla^2 f` is at least :math:`\kappa`, and gradient descent with
    :math:`\tau = 2 \sigma^2 / (\mu + L + 2 \kappa \sigma^2)` contracts at
    :math:`(L - \mu) / (L + \mu + 2 \kappa \sigma^2)`. The price is a bias towards
    zero, which :math:`\kappa` measures. It is fixed, not trained: it is what a
    certificate rests on.

    :param float sigma: :math:`\sigma > 0`. Default: 1.
    :param float kappa: :math:`\kappa > 0`. Default: 0.01.
    :raises ValueError: if one of them is not a positive, finite number.

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> physics = dinv.physics.Inpainting((1, 2, 2), mask=torch.eye(2)[None])
    >>> fidelity = deq.optim.RidgeL2(kappa=0.25)
    >>> x = torch.ones(1, 1, 2, 2)
    >>> fidelity.grad(x, physics.A(0 * x), physics).flatten().tolist()
    [1.25, 0.25, 0.25, 1.25]
    """

    def __init__(self, sigma: float = 1.0, kappa: float = 0.01):
        for name, value in (("sigma", sigma), ("kappa", kappa)):
            if not 0 < value < math.inf:
                raise ValueError(
                    f"{name} must be positive and finite, got {value!r}; for kappa=0 "
                    "use deepinv.optim.L2."
                )
        super().__init__(sigma=sigma)
        self.kappa = float(kappa)

    def fn(
        self, x: Tensor, y: Tensor, physics: Physics, *args: Any, **kwargs: Any
    ) -> Tensor:
        r"""
        :param torch.Tensor x: image, of shape :math:`(B, C, H, W)`.
        :param torch.Tensor y: measurement.
        :param deepinv.physics.Physics physics: its physics.
        :return: :math:`f(x)`, of shape :math:`(B,)`.
        """
        norms = torch.linalg.vector_norm(x.flatten(1), dim=1)
        ridge = self.kappa / 2 * norms**2
        return super().fn(x, y, physics, *args, **kwargs) + ridge

    def grad(
        self, x: Tensor, y: Tensor, physics: Physics, *args: Any, **kwargs: Any
    ) -> Tensor:
        r"""
        :param torch.Tensor x: image.
        :param torch.Tensor y: measurement.
        :param deepinv.physics.Physics physics: its physics.
        :return: :math:`A^\top (Ax - y) / \sigma^2 + \kappa x`.
        """
        return super().grad(x, y, physics, *args, **kwargs) + self.kappa * x

    def prox(
        self,
        x: Tensor,
        y: Tensor,
        physics: Physics,
        *args: Any,
        gamma: float | Tensor = 1.0,
        **kwargs: Any,
    ) -> Tensor:
        r"""
        Completing the square moves the ridge into the argument and the step:

        .. math::

            \operatorname{prox}_{\gamma f}(x)
            = \operatorname{prox}_{\gamma' \|A \cdot - y\|^2 / 2}
            \Bigl(\frac{x}{1 + \gamma \kappa}\Bigr), \qquad
            \gamma' = \frac{\gamma}{\sigma^2 (1 + \gamma \kappa)} .

        :param torch.Tensor x: image.
        :param torch.Tensor y: measurement.
        :param deepinv.physics.Physics physics: its physics.
        :param float, torch.Tensor gamma: step size :math:`\gamma`, one or one a sample.
        :return: the proximal operator at :math:`x`, in closed form where the physics
            has one.
        """
        if isinstance(gamma, Tensor) and 0 < gamma.ndim < x.ndim:
            gamma = gamma.reshape(-1, *[1] * (x.ndim - 1))
        shrinkage = 1 / (1 + gamma * self.kappa)
        return super().prox(x * shrinkage, y, physics, gamma=gamma * shrinkage)

    def extra_repr(self) -> str:
        """Its numbers."""
        return f"sigma={self.norm**-0.5:g}, kappa={self.kappa:g}"
