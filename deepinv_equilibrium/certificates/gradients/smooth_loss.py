"""Losses of a reconstruction, with how fast their gradients change."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..bounds import Bound, outward

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
    :raises TypeError: if the loss does not take the reconstruction only.
    :raises ValueError: if ``smoothness`` is a lower bound.
    """

    loss: Loss
    smoothness: Bound

    def __post_init__(self) -> None:
        require_loss(self.loss)
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


def require_loss(loss: Any) -> None:
    r"""
    Refuse what is not called with the reconstruction only.

    :param Callable loss: what was given as a loss.
    :raises TypeError: if it cannot be called with one argument, as deepinv's losses and
        those of ``torch.nn``, which also take the target.
    """
    takes_one = callable(loss)
    try:
        # Modules and their __call__ take anything; what forward takes is meant.
        called = loss.forward if isinstance(loss, nn.Module) else loss
        parameters = inspect.signature(called)
    except (TypeError, ValueError):
        pass  # no callable, or one that does not tell its parameters
    else:
        try:
            parameters.bind(None)
        except TypeError:
            takes_one = False
    if not takes_one:
        name = getattr(loss, "__name__", type(loss).__name__)
        raise TypeError(
            "loss must take the reconstruction only and return a scalar, got "
            f"{name}. Use deepinv_equilibrium.certificates.SquaredError(x), whose "
            "smoothness is known, or lambda x_hat: ... of a loss that takes the target."
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
