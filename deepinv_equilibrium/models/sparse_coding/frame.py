"""Frames: what images are analysed by and synthesised from."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Frame(nn.Module, ABC):
    r"""
    A linear map :math:`W` from images to coefficients, with its transpose.

    Coefficients have the batch first and the atoms second. A subclass says how many
    atoms there are, and computes :math:`W`, exactly its transpose, and its norm, in the
    precision of what it is given.

    :param int atoms: number of atoms: the size of the second axis of coefficients.
    """

    def __init__(self, atoms: int) -> None:
        super().__init__()
        self.atoms = atoms

    @abstractmethod
    def analysis(self, x: Tensor) -> Tensor:
        r"""
        :param torch.Tensor x: images.
        :return: (:class:`torch.Tensor`) their coefficients :math:`W x`.
        :raises ValueError: if ``x`` is no batch of images that the frame is for.
        """

    @abstractmethod
    def synthesis(self, z: Tensor) -> Tensor:
        r"""
        :param torch.Tensor z: coefficients.
        :return: (:class:`torch.Tensor`) the images :math:`W^\top z`.
        """

    @abstractmethod
    def squared_norm(self) -> Tensor:
        r"""
        :return: (:class:`torch.Tensor`) an upper bound of :math:`\|W\|^2`, without
            axes, differentiable in the weights of the frame.
        """

    def forward(self, x: Tensor) -> Tensor:
        """As :meth:`analysis`."""
        return self.analysis(x)
