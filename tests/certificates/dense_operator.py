"""Dense matrices of linear maps, in float64: the truth that bounds are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


@torch.no_grad()
def matrix(linear: Callable[[Tensor], Tensor], img_size: Sequence[int]) -> Tensor:
    """The matrix of a linear map of images, which may have a bias."""
    basis = torch.eye(torch.Size(img_size).numel(), dtype=torch.float64)
    offset = linear(torch.zeros((1, *img_size), dtype=torch.float64))
    return (linear(basis.reshape(-1, *img_size)) - offset).flatten(1).T


def norm(linear: Callable[[Tensor], Tensor], img_size: Sequence[int]) -> float:
    """Its largest singular value."""
    return float(torch.linalg.matrix_norm(matrix(linear, img_size), 2))
