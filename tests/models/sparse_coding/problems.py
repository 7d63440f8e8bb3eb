"""Small problems of sparse coding and their matrices."""

from __future__ import annotations

import deepinv as dinv
import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from deepinv_equilibrium.models import ConvolutionalFrame, DenseFrame, Frame

from ...certificates.dense_operator import matrix

DOUBLE = torch.float64


def matrix_physics(A: Tensor, img_size: tuple[int, ...]) -> LinearPhysics:
    """Return the physics that multiplies vectorised images by a matrix."""
    return LinearPhysics(
        A=lambda x, **_: x.flatten(1) @ A.mT.to(x.dtype),
        A_adjoint=lambda y, **_: (y @ A.to(y.dtype)).unflatten(1, img_size),
    )


def blur(channels: int, height: int, width: int) -> LinearPhysics:
    """Return an asymmetric blur with circular borders, in double precision."""
    kernel = torch.tensor([[0.1, 0.1, 0.0], [0.1, 0.5, 0.1], [0.0, 0.1, 0.0]])
    return dinv.physics.BlurFFT(
        (channels, height, width), filter=kernel[None, None].to(DOUBLE)
    )


def convolutional_frame(in_channels: int, kernel_size: int = 3) -> ConvolutionalFrame:
    """Return filters that do not form a Parseval frame."""
    frame = ConvolutionalFrame(in_channels, kernel_size).to(DOUBLE)
    with torch.no_grad():
        frame.filters.add_(0.1 * torch.randn_like(frame.filters))
    return frame


def dense_frame(img_size: tuple[int, ...] = (1, 3, 4), atoms: int = 15) -> DenseFrame:
    """Return a frame with more random atoms than pixels."""
    pixels = torch.Size(img_size).numel()
    return DenseFrame(torch.randn(atoms, pixels, dtype=DOUBLE), img_size)


def synthesis_matrix(frame: Frame, img_size: tuple[int, ...]) -> Tensor:
    r"""Return :math:`W^\top` from the analysis of a basis of images."""
    return matrix(frame.analysis, img_size).detach().mT
