"""The common interface of the libraries."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Reconstruct(Protocol):
    """A model with its physics, which maps a measurement to its reconstruction."""

    def __call__(self, y: Tensor, init: Tensor | None = None) -> Tensor:
        r"""
        :param torch.Tensor y: the measurement.
        :param torch.Tensor init: the initial image. Default: ``None``, :math:`A^\top
            y`.
        :return: the reconstruction, with its gradient if gradients are enabled.
        """
