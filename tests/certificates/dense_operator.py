"""Dense matrices of linear maps in float64, the reference for bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


@torch.no_grad()
def matrix(linear: Callable[[Tensor], Tensor], img_size: Sequence[int]) -> Tensor:
    """Return the matrix of an affine map of images."""
    basis = torch.eye(torch.Size(img_size).numel(), dtype=torch.float64)
    offset = linear(torch.zeros((1, *img_size), dtype=torch.float64))
    return (linear(basis.reshape(-1, *img_size)) - offset).flatten(1).T


def norm(linear: Callable[[Tensor], Tensor], img_size: Sequence[int]) -> float:
    """Return the largest singular value of that matrix."""
    return float(torch.linalg.matrix_norm(matrix(linear, img_size), 2))
