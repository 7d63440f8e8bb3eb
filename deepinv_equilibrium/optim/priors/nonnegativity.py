"""Priors that constrain images to be nonnegative."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import torch
from deepinv.optim import Prior
from torch import Tensor


class NonNegativity(Prior):
    r"""
    The indicator of nonnegative images,

    .. math::

        g(x) = \begin{cases} 0 & \text{if } x \geq 0 \text{ in every pixel}, \\
        \infty & \text{else}, \end{cases} \qquad
        \operatorname{prox}_{\gamma g}(x) = P_{x \geq 0}(x) = \max(x, 0)
        \quad \text{for every } \gamma .

    A projection is firmly nonexpansive, so proximal gradient descent with it contracts
    at the rate of the gradient step. With
    :class:`~deepinv_equilibrium.optim.RidgeL2` it is projected gradient descent

    .. math::

        x_{k+1} = P_{x \geq 0} \bigl( (1 - \tau \kappa) x_k - \tau A^\top (A x_k - y)
        \bigr)

    for :math:`\min_{x \geq 0} \tfrac12 \|A x - y\|^2 + \tfrac{\kappa}{2} \|x\|^2`,
    whose rate :func:`deepinv_equilibrium.certify` proves.
    :class:`~deepinv_equilibrium.optim.NonNegativeTikhonov` lets the weight of the last
    term be trained.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium.optim import NonNegativity
    >>> x = torch.tensor([[-1.0, 2.0], [0.0, 3.0]])
    >>> prior = NonNegativity()
    >>> prior(x), prior.prox(x)
    (tensor([inf, 0.]), tensor([[0., 2.],
            [0., 3.]]))
    """

    def __init__(self) -> None:
        super().__init__()
        self.explicit_prior = True

    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""
        Evaluate the prior.

        :param torch.Tensor x: images of shape :math:`(B, *)`, real.
        :return: (:class:`torch.Tensor`) 0 or infinity, of shape :math:`(B,)`.
        :raises TypeError: if ``x`` is complex.
        """
        _refuse_complex(x)
        negative = (x < 0).flatten(1).any(dim=1)
        return torch.where(negative, math.inf, x.new_zeros(len(x)))

    def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> NoReturn:
        r"""
        Raise: the indicator has no gradient.

        :param torch.Tensor x: images.
        :raises ValueError: always.
        """
        raise ValueError(
            f"{type(self).__name__} has no gradient at the border of x >= 0; use its "
            "proximal operator, as in deq.optim.PGD."
        )

    def prox(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""
        Project onto the nonnegative images.

        :param torch.Tensor x: images, real.
        :return: (:class:`torch.Tensor`) :math:`\max(x, 0)`.
        :raises TypeError: if ``x`` is complex.
        """
        _refuse_complex(x)
        return x.clamp(min=0)


def _refuse_complex(x: Tensor) -> None:
    if x.is_complex():
        raise TypeError(
            f"x must be real to be nonnegative, got {x.dtype}; use another prior for "
            "complex images."
        )


class NonNegativeTikhonov(NonNegativity):
    r"""
    Tikhonov's prior on nonnegative images,

    .. math::

        g(x) = \tfrac12 \|x\|^2 \text{ if } x \geq 0, \text{ else } \infty, \qquad
        \operatorname{prox}_{\gamma g}(x) = \frac{\max(x, 0)}{1 + \gamma}.

    With the weight :math:`\lambda` of the optimiser the problem is
    :math:`\min_{x \geq 0} \tfrac12 \|A x - y\|^2 + \tfrac{\lambda}{2} \|x\|^2`. It has
    the minimiser of :class:`NonNegativity` with
    :class:`~deepinv_equilibrium.optim.RidgeL2` and :math:`\kappa = \lambda`, but
    :math:`\lambda` can be trained and :math:`\kappa` cannot. Proximal gradient descent
    contracts for every :math:`A`, at :math:`1 / (1 + \tau \lambda)` or faster for
    :math:`\tau \|A\|^2 \leq 2`.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium.optim import NonNegativeTikhonov
    >>> NonNegativeTikhonov().prox(torch.tensor([[-1.0, 3.0]]), gamma=0.5)
    tensor([[0., 2.]])
    """

    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""
        Evaluate the prior.

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
        Evaluate the proximal operator.

        :param torch.Tensor x: images, real.
        :param float, torch.Tensor gamma: step size :math:`\gamma`, a number or one
            number a sample.
        :return: (:class:`torch.Tensor`) :math:`\max(x, 0) / (1 + \gamma)`.
        :raises TypeError: if ``x`` is complex.
        """
        if isinstance(gamma, Tensor) and 0 < gamma.ndim < x.ndim:
            gamma = gamma.reshape(-1, *[1] * (x.ndim - 1))
        return super().prox(x) / (1 + gamma)
