"""Losses of a reconstruction, with how fast their gradients change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from .bound import Bound, outward

Loss: TypeAlias = Callable[[Tensor], Tensor]
"""From a batch of reconstructions to a scalar: what a training step differentiates. Its
gradient is that of the whole batch, and it may couple the samples."""


@dataclass(frozen=True)
class SmoothLoss:
    r"""
    A loss with a Lipschitz constant of its gradient,

    .. math::

        \|\nabla \ell(x_1) - \nabla \ell(x_2)\| \leq L_\ell \|x_1 - x_2\|.

    The constant is that of the batch as one vector, and so of the loss as it is
    averaged: a mean over :math:`N` entries divides it by :math:`N`.

    :param Callable loss: :math:`\ell`, from a batch to a scalar.
    :param Bound smoothness: :math:`L_\ell`; ``Bound(value, source="...")`` where it is
        proved.
    :raises ValueError: if ``smoothness`` is a lower bound.
    """

    loss: Loss
    smoothness: Bound

    def __post_init__(self) -> None:
        if self.smoothness.is_lower:
            raise ValueError(
                f"smoothness must bound from above, got {self.smoothness}."
            )

    def __call__(self, x: Tensor) -> Tensor:
        """The loss of a batch."""
        return self.loss(x)


class SquaredError(SmoothLoss):
    r"""
    :math:`\ell(x) = w \|x - \bar x\|^2`, summed over samples and entries, for which
    :math:`L_\ell = 2 w`.

    :param torch.Tensor target: :math:`\bar x`, of the shape of the reconstructions.
    :param float weight: :math:`w`, positive. Default: 0.5, the paper's loss;
        ``1 / target.numel()`` makes it the mean squared error.
    :raises ValueError: if the weight is not positive.
    """

    def __init__(self, target: Tensor, weight: float = 0.5):
        if not weight > 0:
            raise ValueError(f"weight must be positive, got {weight!r}.")

        def squared_error(x: Tensor) -> Tensor:
            return weight * (x - target).square().sum()

        super().__init__(
            squared_error, Bound(outward(2 * weight), source="squared error")
        )


def loss_gradient(loss: Loss, x: Tensor) -> Tensor:
    r"""
    The gradient of a loss, detached.

    :param Callable loss: the loss.
    :param torch.Tensor x: where.
    :return: :math:`\nabla \ell(x)`.
    :raises ValueError: if the loss is no scalar, or does not depend on :math:`x`.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        value = loss(x)
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise ValueError(
            "loss must return a scalar tensor, the loss of the batch, got "
            f"{tuple(value.shape) if isinstance(value, Tensor) else value!r}."
        )
    if not value.requires_grad:
        raise ValueError(
            "loss must be a differentiable function of the reconstruction; what it "
            "returns does not depend on its argument."
        )
    (gradient,) = torch.autograd.grad(value, x, torch.ones_like(value))
    return gradient
