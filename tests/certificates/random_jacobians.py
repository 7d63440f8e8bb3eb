"""Dense Jacobians of thousands of random iterations.

Random matrices stand for the Jacobians of nonlinear denoisers: the rest of an iteration
is affine, and a Lipschitz constant is the supremum of the norms of the Jacobians.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TRIALS = 2000
SVD_ROUNDING = 1e-13


def orthogonal(count: int, n: int) -> Tensor:
    return torch.linalg.qr(torch.randn(count, n, n, dtype=torch.float64))[0]


def nonexpansive(count: int, n: int) -> Tensor:
    """Return matrices of norm at most 1; half of them are orthogonal, the worst
    case."""
    values = torch.rand(count, n, dtype=torch.float64)
    values[::2] = 1
    return orthogonal(count, n) @ (values[:, :, None] * orthogonal(count, n))


def symmetric(lower: Tensor, upper: Tensor, n: int) -> Tensor:
    """Return symmetric matrices whose spectra contain both ends."""
    values = torch.rand(len(lower), n, dtype=torch.float64)
    values[:, 0], values[:, 1] = 0, 1
    values = lower[:, None] + (upper - lower)[:, None] * values
    frame = orthogonal(len(lower), n)
    return frame @ (values[:, :, None] * frame.mT)


def draw(low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(TRIALS, dtype=torch.float64)


def check(
    truth: Tensor, rate: Callable[..., float], *arguments: Tensor, tight: float = 0.0
) -> None:
    """Check that the rate is an upper bound in all trials, and that the largest ratio
    of truth to bound is at least ``tight``."""
    bounds = torch.tensor(
        [rate(*values) for values in zip(*map(Tensor.tolist, arguments), strict=True)],
        dtype=torch.float64,
    )
    ratio = torch.linalg.matrix_norm(truth, 2) / bounds
    assert ratio.max() <= 1 + SVD_ROUNDING
    assert ratio.max() >= tight


def scaled(factor: Tensor, matrix: Tensor) -> Tensor:
    return factor[:, None, None] * matrix
