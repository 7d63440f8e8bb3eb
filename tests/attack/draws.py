"""Random numbers and tensors, each from an integer that hypothesis draws."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from hypothesis import strategies as st
from torch import Tensor

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[Any]], Any]
SEEDS = st.integers(0, 2**32 - 1)


class Generator(random.Random):
    """Random numbers and tensors."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.torch = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        """Return normally distributed entries."""
        return torch.randn(shape, generator=self.torch, dtype=torch.float64)

    def power(self, low: float, high: float) -> float:
        """Return a power of ten with an exponent in a range."""
        return 10 ** self.uniform(low, high)

    def orthogonal(self, n: int) -> Tensor:
        """Return an orthogonal matrix."""
        return torch.linalg.qr(self.normal(n, n))[0]

    def kernel(self, *shape: int) -> Tensor:
        """Return a kernel: random, constant, sparse, of one frequency, or of signs."""
        normal = self.normal(*shape)
        kind = self.choice(["normal", "normal", "ones", "sparse", "frequency", "signs"])
        if kind == "ones":
            normal = torch.ones_like(normal)
        elif kind == "sparse":
            normal = normal.where(normal.abs() > 1, 0)
        elif kind == "signs":
            normal = normal.sign()
        elif kind == "frequency":
            phase = torch.zeros(shape[2:], dtype=torch.float64)
            for axis, taps in enumerate(shape[2:]):
                turns = torch.arange(taps) * self.choice([0.0, 0.5, 0.25, 0.33])
                phase += turns.reshape(-1, *[1] * (len(shape) - 3 - axis))
            normal = torch.cos(2 * torch.pi * phase).expand(shape).clone()
        return normal * (self.power(-2, 2) if self.random() < 0.2 else 1.0)

    def image(self, *shape: int) -> Tensor:
        """Return an image of random contrast and brightness."""
        contrast = self.choice([1e-3, 0.3, 1.0, 10.0])
        return self.choice([0.0, 0.0, 0.5, -2.0]) + contrast * self.normal(*shape)


def generator(draw: Draw) -> Generator:
    """Draw a generator."""
    return Generator(draw(SEEDS))


def choose(draw: Draw, options: Sequence[T]) -> T:
    """Draw one of some options."""
    return draw(st.sampled_from(options))


def maybe(draw: Draw) -> bool:
    """Draw a truth value."""
    return draw(st.booleans())
