"""A frame of learned filters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from ...certificates import convolution_norm
from ...fixed_points.solvers.base import require_count
from ..image_batch import check_images
from .frame import Frame


class ConvolutionalFrame(Frame):
    r"""
    The responses of an image to :math:`M` learned filters of :math:`k \times k` pixels,

    .. math::

        (W x)_m = \sum_c h_{m, c} \star x_c, \qquad
        (W^\top z)_c = \sum_m h_{m, c} * z_m,

    at every position where a filter meets the image, which is extended by zeros: images
    :math:`(B, C, H, W)` of any size have coefficients :math:`(B, M, H + k - 1, W + k -
    1)`. :math:`W^\top` is the synthesis from a convolutional dictionary.

    The filters start as the orthonormal discrete cosine transform of :math:`C \times k
    \times k` patches, over :math:`k`: :math:`M = C k^2`, and as every pixel is in
    :math:`k^2` patches, :math:`W^\top W = I` for every image size, a Parseval frame.
    The norm is bounded by :func:`~deepinv_equilibrium.certificates.convolution_norm`,
    for every image size, whatever is learned.

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
        :param torch.Tensor x: images of shape :math:`(B, C, H, W)`.
        :return: (:class:`torch.Tensor`) :math:`W x`, of shape :math:`(B, M, H + k - 1,
            W + k - 1)`.
        :raises ValueError: if ``x`` is no batch of real images with so many channels.
        """
        check_images(x, self.in_channels)
        return conv2d(x, self.filters.to(x.dtype), padding=self.kernel_size - 1)

    def synthesis(self, z: Tensor) -> Tensor:
        r"""
        :param torch.Tensor z: coefficients of shape :math:`(B, M, H + k - 1, W + k -
            1)`.
        :return: (:class:`torch.Tensor`) :math:`W^\top z`, of shape :math:`(B, C, H,
            W)`.
        """
        filters = self.filters.to(z.dtype)
        return conv_transpose2d(z, filters, padding=self.kernel_size - 1)

    def squared_norm(self) -> Tensor:
        """Certified for every image size."""
        return convolution_norm(self.filters).square()

    def extra_repr(self) -> str:
        """Its sizes."""
        return f"in_channels={self.in_channels}, kernel_size={self.kernel_size}"


def _cosines(n: int) -> Tensor:
    """The orthonormal discrete cosine transform of n points; rows are atoms."""
    points = torch.arange(n, dtype=torch.float64)
    waves = torch.cos(math.pi / n * torch.outer(points, points + 0.5))
    return waves / torch.linalg.vector_norm(waves, dim=1, keepdim=True)
