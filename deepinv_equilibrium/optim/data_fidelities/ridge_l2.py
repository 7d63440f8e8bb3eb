"""A least-squares data fidelity that is strongly convex for every operator."""

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

    Inpainting, MRI and most blurs have a smallest eigenvalue
    :math:`\mu = \lambda_{\min}(A^\top A)` of 0 or nearly 0. Then no rate is proved for
    an iteration with a denoiser that is only nonexpansive. The ridge bounds
    :math:`\nabla^2 f` below by :math:`\kappa`: with
    :math:`\mu I \preceq A^\top A \preceq L I`, gradient descent with
    :math:`\tau = 2 \sigma^2 / (\mu + L + 2 \kappa \sigma^2)` contracts at
    :math:`(L - \mu) / (L + \mu + 2 \kappa \sigma^2)`. In return the solution is biased
    towards zero. :math:`\kappa` is a constant and is not trained, because certificates
    depend on it.

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
        Evaluate the data fidelity.

        :param torch.Tensor x: image, of shape :math:`(B, C, H, W)`.
        :param torch.Tensor y: measurement.
        :param deepinv.physics.Physics physics: physics of the measurement.
        :return: (:class:`torch.Tensor`) :math:`f(x)`, of shape :math:`(B,)`.
        """
        norms = torch.linalg.vector_norm(x.flatten(1), dim=1)
        ridge = self.kappa / 2 * norms**2
        return super().fn(x, y, physics, *args, **kwargs) + ridge

    def grad(
        self, x: Tensor, y: Tensor, physics: Physics, *args: Any, **kwargs: Any
    ) -> Tensor:
        r"""
        Return the gradient :math:`A^\top (Ax - y) / \sigma^2 + \kappa x`.

        :param torch.Tensor x: image, of shape :math:`(B, C, H, W)`.
        :param torch.Tensor y: measurement.
        :param deepinv.physics.Physics physics: physics of the measurement.
        :return: (:class:`torch.Tensor`) the gradient, of the shape of ``x``.
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
        Evaluate the proximal operator, in closed form if the physics has one.

        Completing the square moves the ridge into the argument and the step size:

        .. math::

            \operatorname{prox}_{\gamma f}(x)
            = \operatorname{prox}_{\gamma' \|A \cdot - y\|^2 / 2}
            \Bigl(\frac{x}{1 + \gamma \kappa}\Bigr), \qquad
            \gamma' = \frac{\gamma}{\sigma^2 (1 + \gamma \kappa)} .

        :param torch.Tensor x: image, of shape :math:`(B, C, H, W)`.
        :param torch.Tensor y: measurement.
        :param deepinv.physics.Physics physics: physics of the measurement.
        :param float, torch.Tensor gamma: step size :math:`\gamma`, a number or one
            number a sample.
        :return: (:class:`torch.Tensor`) the image, of the shape of ``x``.
        """
        if isinstance(gamma, Tensor) and 0 < gamma.ndim < x.ndim:
            gamma = gamma.reshape(-1, *[1] * (x.ndim - 1))
        shrinkage = 1 / (1 + gamma * self.kappa)
        return super().prox(x * shrinkage, y, physics, gamma=gamma * shrinkage)

    def extra_repr(self) -> str:
        """Return sigma and kappa."""
        return f"sigma={self.norm**-0.5:g}, kappa={self.kappa:g}"
