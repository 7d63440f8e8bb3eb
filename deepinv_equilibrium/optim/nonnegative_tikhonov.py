"""Tikhonov's prior on nonnegative images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .nonnegativity import NonNegativity


class NonNegativeTikhonov(NonNegativity):
    r"""
    Tikhonov's prior on nonnegative images,

    .. math::

        g(x) = \tfrac12 \|x\|^2 \text{ if } x \geq 0, \text{ else } \infty, \qquad
        \operatorname{prox}_{\gamma g}(x) = \frac{\max(x, 0)}{1 + \gamma}.

    The weight :math:`\lambda` of the optimiser is that of
    :math:`\min_{x \geq 0} \tfrac12 \|A x - y\|^2 + \tfrac{\lambda}{2} \|x\|^2`, and can
    be trained, which the :math:`\kappa` of
    :class:`~deepinv_equilibrium.optim.RidgeL2` cannot. The minimiser is the same.
    Proximal gradient descent with it contracts for every :math:`A`, at
    :math:`1 / (1 + \tau \lambda)` or faster for :math:`\tau \|A\|^2 \leq 2`.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium.optim import NonNegativeTikhonov
    >>> NonNegativeTikhonov().prox(torch.tensor([[-1.0, 3.0]]), gamma=0.5)
    tensor([[0., 2.]])
    """

    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""
        :param torch.Tensor x: images of shape :math:`(B, *)`, real.
        :return: (:class:`torch.Tensor`) :math:`g(x)`, of shape :math:`(B,)`.
        :raises TypeError: if ``x`` is complex.
        """
        norms = torch.linalg.vector_norm(x.flatten(1), dim=1)
        return norms**2 / 2 + super().fn(x)

    def prox(
        self, x: Tensor, *args: Any, gamma: float | Tensor = 1.0, **kwargs: Any
    ) -> Tensor:
        r"""
        :param torch.Tensor x: images, real.
        :param float, torch.Tensor gamma: step size :math:`\gamma`, one or one a sample.
        :return: (:class:`torch.Tensor`) :math:`\max(x, 0) / (1 + \gamma)`.
        :raises TypeError: if ``x`` is complex.
        """
        if isinstance(gamma, Tensor) and 0 < gamma.ndim < x.ndim:
            gamma = gamma.reshape(-1, *[1] * (x.ndim - 1))
        return super().prox(x) / (1 + gamma)
