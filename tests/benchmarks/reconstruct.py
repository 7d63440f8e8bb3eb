"""The one interface that the libraries are brought to."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Reconstruct(Protocol):
    """A model with its physics: from a measurement to its reconstruction."""

    def __call__(self, y: Tensor, init: Tensor | None = None) -> Tensor:
        r"""
        :param torch.Tensor y: the measurement.
        :param torch.Tensor init: where to start. Default: ``None``, :math:`A^\top y`.
        :return: the reconstruction, with gradient where gradients are enabled.
        """
