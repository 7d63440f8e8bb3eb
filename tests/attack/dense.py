"""Dense truths in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


def norm(matrix: Tensor) -> float:
    """Return the largest singular value, at most 1e-13 too large."""
    if matrix.numel() == 0:
        return 0.0
    return float(torch.linalg.matrix_norm(matrix, 2)) * (1 - 1e-13)


def jacobian(function: Map, x: Tensor, *, alike: bool = True) -> Tensor:
    """
    Return the Jacobian at one image.

    :param function: a map of batches; it may work in place.
    :param x: an image with a batch axis of length 1.
    :param alike: whether the map treats the images of a batch alike, so that one batch
        of copies gives all rows.
    """
    if not alike:
        rows = torch.autograd.functional.jacobian(lambda x: function(x + 0), x)
        return rows.reshape(-1, x.numel())
    with torch.no_grad():
        out = function(x.clone())
    count = out.numel()
    copies = x.detach().expand(count, *x.shape[1:]).clone().requires_grad_()
    identity = torch.eye(count, dtype=out.dtype).reshape(count, *out.shape[1:])
    value = function(copies + 0)
    if not value.requires_grad:
        return torch.zeros(count, x.numel(), dtype=x.dtype)
    (rows,) = torch.autograd.grad(value, copies, identity)
    return rows.flatten(1)


def unit_images(size: Sequence[int]) -> Tensor:
    """Return the unit images."""
    count = torch.Size(size).numel()
    return torch.eye(count, dtype=torch.float64).reshape(count, *size)


def flat(y: Any) -> Tensor:
    """Return measurements as rows of real numbers."""
    if not isinstance(y, Tensor):
        return torch.cat([flat(part) for part in y], dim=1)
    return (torch.view_as_real(y) if y.is_complex() else y).flatten(1)


@torch.no_grad()
def matrix(linear: Callable[[Tensor], Any], size: Sequence[int]) -> Tensor:
    """Return the matrix of a linear map of images, whose batch counts as part of the
    image if ``size`` has one."""
    return flat(linear(unit_images(size))).T.double()


@torch.no_grad()
def batch_matrix(linear: Callable[[Tensor], Any], shape: Sequence[int]) -> Tensor:
    """Return the matrix of a linear map of whole batches, column by column."""
    columns = [flat(linear(image)).flatten() for image in unit_images(shape)]
    return torch.stack(columns, dim=1).double()


def quotient(function: Map, x: Tensor, other: Tensor) -> float:
    """
    Return the difference quotient of two images.

    :raises ValueError: if both values are infinite, as maxima of nothing but padding.
    """
    with torch.no_grad():
        values = function(x.clone()), function(other.clone())
    if bool((values[0].isinf() & values[1].isinf()).any()):
        raise ValueError("infinite values have no difference")
    return float((values[0] - values[1]).norm() / (x - other).norm())
