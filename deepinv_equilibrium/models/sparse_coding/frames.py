"""Frames, which analyse images into coefficients and synthesise them again."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from deepinv.physics import LinearPhysics
from deepinv.utils import TensorList
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from ...certificates import convolution_norm
from ...certificates.image_size import require_image_size
from ...equilibrium.input_checks import (
    check_images,
    measured_image,
    require_linear,
    require_measurement,
    require_physics,
)
from ...fixed_points.argument_checks import require_count


class Frame(nn.Module, ABC):
    r"""
    A linear map :math:`W` from images to coefficients, with its transpose.

    The first axis of coefficients is the batch, the second one the atoms. A subclass
    computes :math:`W`, its exact transpose :math:`W^\top`, and a bound of its norm. The
    results have the precision of the argument.

    :param int atoms: number of atoms, the size of the second axis of coefficients.
    """

    def __init__(self, atoms: int) -> None:
        super().__init__()
        self.atoms = atoms

    @abstractmethod
    def analysis(self, x: Tensor) -> Tensor:
        r"""
        Return the coefficients of images.

        :param torch.Tensor x: images.
        :return: (:class:`torch.Tensor`) the coefficients :math:`W x`.
        :raises ValueError: if ``x`` does not have the shape that the frame requires.
        """

    @abstractmethod
    def synthesis(self, z: Tensor) -> Tensor:
        r"""
        Return the images that coefficients synthesise.

        :param torch.Tensor z: coefficients.
        :return: (:class:`torch.Tensor`) the images :math:`W^\top z`.
        """

    @abstractmethod
    def squared_norm(self) -> Tensor:
        r"""
        Return an upper bound of :math:`\|W\|^2`.

        :return: (:class:`torch.Tensor`) the bound, without axes, differentiable in the
            weights of the frame.
        """

    def forward(self, x: Tensor) -> Tensor:
        """Call :meth:`analysis`."""
        return self.analysis(x)


class DenseFrame(Frame):
    r"""
    A learned matrix :math:`M` that acts on images of a fixed size as vectors,

    .. math::

        W x = M \operatorname{vec}(x), \qquad
        W^\top z = \operatorname{vec}^{-1}(M^\top z),

    with coefficients of shape :math:`(B, m)`. The rows of :math:`M` are the atoms.

    :param torch.Tensor matrix: initial value of :math:`M`, of shape :math:`(m, n)`.
    :param Sequence img_size: size of the images or signals without the batch axis, with
        a product of :math:`n`. Default: ``None``, which means :math:`(n,)`.
    :raises TypeError: if ``matrix`` is not a real floating-point tensor.
    :raises ValueError: if ``matrix`` does not have two axes, is not finite, or does not
        fit ``img_size``.

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
        Return the coefficients of images.

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
        Return the images that coefficients synthesise.

        :param torch.Tensor z: coefficients of shape :math:`(B, m)`.
        :return: (:class:`torch.Tensor`) :math:`W^\top z`, of shape :math:`(B,`
            ``*img_size``:math:`)`.
        """
        return (z @ self.matrix.to(z.dtype)).unflatten(1, self.img_size)

    def squared_norm(self) -> Tensor:
        """Return the square of the largest singular value, computed in float64."""
        return torch.linalg.matrix_norm(self.matrix.double(), ord=2).square()

    def extra_repr(self) -> str:
        """Return the number of atoms and the image size."""
        return f"atoms={self.atoms}, img_size={self.img_size}"


class ConvolutionalFrame(Frame):
    r"""
    Responses of an image to :math:`M` learned filters of :math:`k \times k` pixels,

    .. math::

        (W x)_m = \sum_c h_{m, c} \star x_c, \qquad
        (W^\top z)_c = \sum_m h_{m, c} * z_m,

    at every position where a filter overlaps the image, which is extended by zeros.
    Images of any size :math:`(B, C, H, W)` have coefficients of shape :math:`(B, M, H +
    k - 1, W + k - 1)`. :math:`W^\top` is the synthesis from a convolutional dictionary.

    Initially, the filters are the orthonormal discrete cosine transform of :math:`C
    \times k \times k` patches, divided by :math:`k`, so that :math:`M = C k^2`. Every
    pixel is in :math:`k^2` patches; hence :math:`W^\top W = I` for every image size, a
    Parseval frame. :func:`~deepinv_equilibrium.certificates.convolution_norm` bounds
    the norm for every image size and all weights.

    :param int in_channels: channels :math:`C` of the images.
    :param int kernel_size: :math:`k`.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium.models import ConvolutionalFrame
    >>> frame = ConvolutionalFrame(in_channels=3, kernel_size=4)
    >>> x = torch.rand(1, 3, 9, 7)
    >>> z = frame.analysis(x)
    >>> z.shape, torch.allclose(frame.synthesis(z), x, atol=1e-5)
    (torch.Size([1, 48, 12, 10]), True)
    """

    def __init__(self, in_channels: int = 1, kernel_size: int = 5) -> None:
        require_count("in_channels", in_channels, 1)
        require_count("kernel_size", kernel_size, 1)
        super().__init__(in_channels * kernel_size**2)
        self.in_channels, self.kernel_size = in_channels, kernel_size
        channels, pixels = _cosines(in_channels), _cosines(kernel_size)
        filters = torch.einsum("ac,pi,qj->apqcij", channels, pixels, pixels)
        filters = filters.reshape(self.atoms, in_channels, kernel_size, kernel_size)
        self.filters = nn.Parameter(
            (filters / kernel_size).to(torch.get_default_dtype())
        )

    def analysis(self, x: Tensor) -> Tensor:
        r"""
        Return the coefficients of images.

        :param torch.Tensor x: images of shape :math:`(B, C, H, W)`.
        :return: (:class:`torch.Tensor`) :math:`W x`, of shape :math:`(B, M, H + k - 1,
            W + k - 1)`.
        :raises ValueError: if ``x`` is not a batch of real images with ``in_channels``
            channels.
        """
        check_images(x, self.in_channels)
        return conv2d(x, self.filters.to(x.dtype), padding=self.kernel_size - 1)

    def synthesis(self, z: Tensor) -> Tensor:
        r"""
        Return the images that coefficients synthesise.

        :param torch.Tensor z: coefficients of shape :math:`(B, M, H + k - 1, W + k -
            1)`.
        :return: (:class:`torch.Tensor`) :math:`W^\top z`, of shape :math:`(B, C, H,
            W)`.
        """
        filters = self.filters.to(z.dtype)
        return conv_transpose2d(z, filters, padding=self.kernel_size - 1)

    def squared_norm(self) -> Tensor:
        """Return a bound of the squared norm that is certified for every image size."""
        return convolution_norm(self.filters).square()

    def extra_repr(self) -> str:
        """Return the number of channels and the size of the filters."""
        return f"in_channels={self.in_channels}, kernel_size={self.kernel_size}"


def _cosines(n: int) -> Tensor:
    """Return the orthonormal discrete cosine transform of n points, atoms as rows."""
    points = torch.arange(n, dtype=torch.float64)
    waves = torch.cos(math.pi / n * torch.outer(points, points + 0.5))
    return waves / torch.linalg.vector_norm(waves, dim=1, keepdim=True)


_REASON = "coefficients are fitted by least squares"


def backprojection(y: Tensor, physics: LinearPhysics) -> Tensor:
    r"""
    Check a real measurement and return :math:`A^\top y`.

    :param torch.Tensor, deepinv.utils.TensorList y: the measurement; of a stacked
        physics, the list of its measurements.
    :param deepinv.physics.LinearPhysics physics: its physics.
    :return: (:class:`torch.Tensor`) the image :math:`A^\top y`.
    :raises TypeError: if the physics is not linear, or ``y`` is not a real tensor.
    :raises ValueError: if ``y`` is not finite, or does not have exactly the shape that
        ``physics.A`` returns.
    """
    require_physics(physics, y)
    require_linear(physics, _REASON)
    require_measurement(y)
    for part in y if isinstance(y, TensorList) else [y]:
        if part.is_complex():
            raise TypeError(f"y must be real, got {part.dtype}.")
        if not bool(torch.isfinite(part).all()):
            raise ValueError("y has NaN or infinite values; leave those samples out.")
    return measured_image(y, physics, _REASON)
