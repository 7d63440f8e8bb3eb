"""A frame given by a matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...certificates.image_size import require_image_size
from .frame import Frame


class DenseFrame(Frame):
    r"""
    A learned matrix that acts on images of one size as vectors,

    .. math::

        W x = M \operatorname{vec}(x), \qquad
        W^\top z = \operatorname{vec}^{-1}(M^\top z),

    with coefficients of shape :math:`(B, m)`. The rows of :math:`M` are the atoms.

    :param torch.Tensor matrix: where :math:`M` starts, of shape :math:`(m, n)`.
    :param Sequence img_size: size of the images or signals without the batch, of
        :math:`n` entries in all. Default: ``None``, vectors of length :math:`n`.
    :raises TypeError: if the matrix is no real floating-point tensor.
    :raises ValueError: if the matrix is none, or does not fit ``img_size``.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium.models import DenseFrame
    >>> frame = DenseFrame(torch.randn(12, 8), img_size=(2, 4))
    >>> frame.analysis(torch.rand(5, 2, 4)).shape
    torch.Size([5, 12])
    """

    def __init__(self, matrix: Tensor, img_size: Sequence[int] | None = None) -> None:
        if not (isinstance(matrix, Tensor) and matrix.is_floating_point()):
            got = matrix.dtype if isinstance(matrix, Tensor) else type(matrix).__name__
            raise TypeError(
                f"matrix must be a real floating-point tensor, got {got}; convert it, "
                "e.g. torch.tensor(matrix).float()."
            )
        if matrix.ndim != 2 or not bool(torch.isfinite(matrix).all()):
            raise ValueError(
                "matrix must be a finite matrix, of shape (atoms, pixels), got shape "
                f"{tuple(matrix.shape)}."
            )
        size = (matrix.shape[1],) if img_size is None else require_image_size(img_size)
        if math.prod(size) != matrix.shape[1]:
            raise ValueError(
                f"img_size {size} has {math.prod(size)} entries, and matrix is for "
                f"{matrix.shape[1]}: it must have as many columns."
            )
        super().__init__(len(matrix))
        self.img_size = size
        self.matrix = nn.Parameter(matrix.detach().clone())

    def analysis(self, x: Tensor) -> Tensor:
        r"""
        :param torch.Tensor x: images of shape :math:`(B,` ``*img_size``:math:`)`.
        :return: (:class:`torch.Tensor`) :math:`W x`, of shape :math:`(B, m)`.
        :raises ValueError: if ``x`` has another shape, or is not real.
        """
        if x.shape[1:] != self.img_size or not x.is_floating_point():
            raise ValueError(
                f"x must be a real tensor of shape (B, *{self.img_size}), got "
                f"{x.dtype} of shape {tuple(x.shape)}."
            )
        return x.flatten(1) @ self.matrix.to(x.dtype).mT

    def synthesis(self, z: Tensor) -> Tensor:
        r"""
        :param torch.Tensor z: coefficients of shape :math:`(B, m)`.
        :return: (:class:`torch.Tensor`) :math:`W^\top z`, of shape :math:`(B,`
            ``*img_size``:math:`)`.
        """
        return (z @ self.matrix.to(z.dtype)).unflatten(1, self.img_size)

    def squared_norm(self) -> Tensor:
        """The square of the largest singular value, computed in float64."""
        return torch.linalg.matrix_norm(self.matrix.double(), ord=2).square()

    def extra_repr(self) -> str:
        """Its sizes."""
        return f"atoms={self.atoms}, img_size={self.img_size}"
