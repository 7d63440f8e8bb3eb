"""A function of images and its gradient, from one evaluation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def value_and_gradient(
    function: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Tensor]:
    r"""
    :param Callable function: from images of shape :math:`(B, ...)` to a number for each
        sample, of shape :math:`(B,)`; it keeps samples apart.
    :param torch.Tensor x: images, which are left as they are.
    :return: the values, without gradient, and the gradients, of the shape of ``x`` and
        recorded where gradients are enabled, so that they can be differentiated.
    """
    record = torch.is_grad_enabled()
    with torch.enable_grad():
        if not x.requires_grad:
            x = x.detach().requires_grad_()
        value = function(x)
        if not value.requires_grad:  # a constant, such as deepinv's ZeroPrior
            return value, torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=record)
    return value.detach(), gradient
