"""Losses of a reconstruction, and Lipschitz constants of their gradients."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..bounds import Bound, outward

Loss: TypeAlias = Callable[[Tensor], Tensor]
"""A function from a batch of reconstructions to a scalar, which a training step
differentiates. It may couple the samples."""


@dataclass(frozen=True)
class SmoothLoss:
    r"""
    A loss and a Lipschitz constant of its gradient,

    .. math::

        \|\nabla \ell(x_1) - \nabla \ell(x_2)\| \leq L_\ell \|x_1 - x_2\|,

    where :math:`x_1, x_2` are whole batches. A mean over :math:`N` entries therefore
    divides the constant by :math:`N`.

    :param Callable loss: :math:`\ell`, from a batch to a scalar.
    :param Bound smoothness: :math:`L_\ell`, such as ``Bound(value, source="...")`` for
        a proved constant.
    :raises TypeError: if the loss needs another argument than the reconstruction.
    :raises ValueError: if ``smoothness`` is a lower bound.
    """

    loss: Loss
    smoothness: Bound

    def __post_init__(self) -> None:
        require_loss(self.loss)
        if self.smoothness.is_lower:
            raise ValueError(
                f"smoothness must be an upper bound, got {self.smoothness}."
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Return the loss of a batch."""
        return self.loss(x)


class SquaredError(SmoothLoss):
    r"""
    The loss :math:`\ell(x) = w \|x - \bar x\|^2`, summed over samples and entries. Its
    smoothness is :math:`L_\ell = 2 w`.

    :param torch.Tensor target: :math:`\bar x`, of the shape of the reconstructions.
    :param float weight: :math:`w`, positive. Default: 0.5, the weight in the ReTune
        paper :footcite:p:`davy2025restarted`; ``1 / target.numel()`` gives the mean
        squared error.
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
    Refuse a loss that cannot be called with the reconstruction alone.

    :param Callable loss: the loss.
    :raises TypeError: if the loss is not callable or needs a second argument. The
        losses of deepinv and ``torch.nn`` do: they take the target, too.
    """
    takes_one = callable(loss)
    try:
        # __call__ of a module accepts everything; the signature of forward counts.
        called = loss.forward if isinstance(loss, nn.Module) else loss
        parameters = inspect.signature(called)
    except (TypeError, ValueError):
        pass  # not callable, or a callable without a signature
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
            "smoothness is known, or wrap a loss that takes the target: "
            "lambda x_hat: loss(x_hat, x)."
        )


def loss_gradient(loss: Loss, x: Tensor) -> Tensor:
    r"""
    Return the gradient of a loss, without a graph.

    :param Callable loss: :math:`\ell`.
    :param torch.Tensor x: a batch of reconstructions.
    :return: :math:`\nabla \ell(x)`.
    :raises ValueError: if the loss is not a scalar tensor, or does not depend on
        :math:`x`.
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
            "loss must be a differentiable function of the reconstruction, but its "
            "value does not depend on its argument."
        )
    (gradient,) = torch.autograd.grad(value, x, torch.ones_like(value))
    return gradient
