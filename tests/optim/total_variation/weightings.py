"""Random images, and random weights of every allowed shape."""

from __future__ import annotations

import torch
from torch import Tensor

DOUBLE = torch.float64
NORMS = ("isotropic", "componentwise")
PLANE, VOLUME = (2, 2, 2, 3), (2, 1, 2, 2, 3)


def weight_shapes(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return the allowed shapes of weights for images of a shape, by name."""
    batch, channels, *spatial = shape
    d, ones = len(spatial), [1] * len(spatial)
    return {
        "scalar": (),
        "sample": (batch,),
        "channel": (1, channels, *ones),
        "pixel": (batch, 1, *spatial),
        "direction": (1, 1, d, *ones),
        "direction and pixel": (batch, channels, d, *spatial),
    }


WEIGHTINGS = tuple(weight_shapes(PLANE))


def in_axes(weight: Tensor, x: Tensor) -> Tensor:
    """Return a random weight with the axes of the differences."""
    if weight.ndim <= 1:
        return weight.reshape(-1, *[1] * x.ndim)
    return weight.unsqueeze(2) if weight.ndim == x.ndim else weight


def random_images(
    seed: int, shape: tuple[int, ...], dtype: torch.dtype = DOUBLE
) -> Tensor:
    """Return images with standard normal pixels."""
    generator = torch.Generator().manual_seed(seed)
    wide = torch.complex128 if dtype.is_complex else DOUBLE
    return torch.randn(shape, generator=generator, dtype=wide).to(dtype)


def random_weight(
    seed: int, shape: tuple[int, ...], weighting: str = "direction and pixel"
) -> Tensor:
    """Return weights from 0.05 to 0.4, for which some pixels join and others do not."""
    generator = torch.Generator().manual_seed(seed)
    shape = weight_shapes(shape)[weighting]
    return 0.05 + 0.35 * torch.rand(shape, generator=generator, dtype=DOUBLE)


def random_dual(seed: int, x: Tensor, size: float = 1.0) -> Tensor:
    """Return a random dual field, which need not be feasible."""
    shape = (*x.shape[:2], x.ndim - 2, *x.shape[2:])
    return size * random_images(seed, shape, x.dtype)
