"""Dense Jacobians of maps of images: the truth that bounds are held against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def dense_jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The Jacobian at one image of a map that treats the images of a batch alike, and
    keeps their size: all rows at once, by a batch of copies."""
    assert len(x) == 1
    copies = x.detach().expand(x.numel(), *x.shape[1:]).clone().requires_grad_()
    identity = torch.eye(x.numel(), dtype=x.dtype).reshape(copies.shape)
    (rows,) = torch.autograd.grad(function(copies), copies, identity)
    return rows.flatten(1)
