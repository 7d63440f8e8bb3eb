"""A DnCNN that counts how often it is evaluated and differentiated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import deepinv as dinv
import torch
from torch import Tensor


@dataclass
class Count:
    """Numbers of forward and backward passes of a batch through the denoiser, and of
    the images in them."""

    evaluations: int = 0
    products: int = 0
    images: int = 0


class CountedDenoiser(dinv.models.Denoiser):
    r"""
    deepinv's DnCNN :math:`D` with a scaled output, :math:`x \mapsto c\, D(x)`.

    All libraries evaluate this module, so their evaluations are counted here and not
    taken from their reports.

    :param torch.nn.Module denoiser: :math:`D`.
    :param float scale: :math:`c`.
    """

    def __init__(self, denoiser: torch.nn.Module, scale: float):
        super().__init__()
        self.denoiser = denoiser
        self.scale = scale
        self._count: Count | None = None

    def forward(self, x: Tensor, sigma: object = None) -> Tensor:
        value = self.scale * self.denoiser(x)
        count = self._count
        if count is None:
            return value
        count.evaluations += 1
        count.images += len(x)
        if value.requires_grad:

            def add(grad: Tensor) -> None:
                count.products += 1

            value.register_hook(add)
        return value

    @contextmanager
    def counting(self) -> Iterator[Count]:
        """Count within the block. Outside of it nothing is added to the graph."""
        self._count = Count()
        try:
            yield self._count
        finally:
            self._count = None
