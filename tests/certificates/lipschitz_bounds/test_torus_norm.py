from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from deepinv_equilibrium.certificates import convolution_norm

from ..dense_operator import norm

Kernel = Callable[[tuple[int, int]], Tensor]
KERNELS: tuple[Kernel, ...] = (torch.randn, torch.rand, torch.ones)


@pytest.mark.parametrize("grid", [None, 25])
@pytest.mark.parametrize("shape", [(1, 25), (25, 1), (25, 25)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_convolution_norm_bounds_long_kernels(
    grid: int | None, shape: tuple[int, int], kernel: Kernel
) -> None:
    layer = nn.Conv2d(1, 1, shape, padding="same", bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(kernel(shape))
    bound = convolution_norm(layer.weight.detach(), padding="same", grid=grid).item()
    assert bound >= norm(layer, (1, 1, 40) if shape[0] == 1 else (1, 20, 12))
    # On the smallest grid with a finite factor the bound is loose, but it holds.
    truth = torch.fft.fft2(layer.weight.detach(), s=(512, 512)).abs().max().item()
    factor = 1 / math.cos(math.pi * 24 / (2 * (grid or 192)))
    assert truth <= bound <= truth * factor ** (2 if min(shape) > 1 else 1) * 1.001


@pytest.mark.parametrize("decay", [1.0, 0.95])
def test_convolution_norm_is_within_two_per_cent_for_64_channels(decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 64, 3, 3, generator=generator, dtype=torch.float64) / 24
    # A decay below 1 gives decaying singular values, as in trained networks.
    weight *= decay ** torch.arange(64, dtype=torch.float64)[:, None, None, None]
    layer = nn.Conv2d(64, 64, 3, padding=1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight)
        truth = lanczos(layer, generator, steps=24)
    bound = convolution_norm(layer.weight.detach(), padding=1).item()
    assert truth <= bound <= 1.02 * truth


def lanczos(layer: nn.Conv2d, generator: torch.Generator, steps: int) -> float:
    """Return a lower bound of the norm at 48 x 48 pixels, a Ritz value."""
    v = torch.randn(1, 64, 48, 48, generator=generator, dtype=torch.float64)
    v, before, beta = v / v.norm(), torch.zeros_like(v), 0.0
    tridiagonal = torch.zeros(steps + 1, steps + 1, dtype=torch.float64)
    for step in range(steps):
        w = nn.functional.conv_transpose2d(layer(v), layer.weight, padding=1)
        alpha = (w * v).sum().item()
        w -= alpha * v + beta * before
        beta = w.norm().item()
        v, before = w / beta, v
        tridiagonal[step, step] = alpha
        tridiagonal[step + 1, step] = tridiagonal[step, step + 1] = beta
    return torch.linalg.eigvalsh(tridiagonal[:-1, :-1])[-1].sqrt().item()
