"""The U-Net that estimates TV weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv3d, interpolate

# Three convolutions follow each other at most before their result saturates again, so
# that they do not overflow float32, with thousands of inputs to a pixel.
_LARGEST_FEATURE = 1e9
_LARGEST_WEIGHT = 1e5


class UNet(nn.Module):
    r"""
    The U-Net of :footcite:t:`kofler2023learning`, in two or three dimensions, without
    biases and normalisation.

    Each of ``depth`` levels has two convolutions, each followed by a LeakyReLU of slope
    0.01; max-pooling by 2 leads to the next level, which has twice as many channels. On
    the way back, linear interpolation by 2 and a convolution to half the channels lead
    to a level, whose features are concatenated, and two convolutions follow. A
    convolution of size 1 gives the outputs, to which the inputs are added; where there
    are more or fewer inputs than outputs, their projection by a convolution of size 1.
    All other convolutions are of size 3 with zero padding.

    It departs from there in two ways. The projection has no bias. Kernels saturate at
    :math:`\pm 10^5`, the inputs and the features of each level at :math:`\pm 10^9`, so
    that the outputs are finite even of a network whose weights have run away.

    :param int dim: number of spatial axes, 2 or 3.
    :param int in_channels: number of inputs.
    :param int out_channels: number of outputs.
    :param int filters: channels of the first level.
    :param int depth: number of levels.
    """

    def __init__(
        self, dim: int, in_channels: int, out_channels: int, filters: int, depth: int
    ) -> None:
        super().__init__()
        widths = [filters * 2**level for level in range(depth)]
        self.encoder = nn.ModuleList(
            _double_convolution(dim, before, width)
            for before, width in zip([in_channels, *widths], widths, strict=False)
        )
        steps = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.upsampled = nn.ModuleList(
            Convolution(dim, below, width, 3) for below, width in steps
        )
        self.decoder = nn.ModuleList(
            _double_convolution(dim, 2 * width, width) for _, width in steps
        )
        self.output = Convolution(dim, filters, out_channels, 1)
        self.shortcut = (
            nn.Identity()
            if in_channels == out_channels
            else Convolution(dim, in_channels, out_channels, 1)
        )
        self.interpolation = "bilinear" if dim == 2 else "trilinear"
        self.pool = nn.MaxPool2d(2) if dim == 2 else nn.MaxPool3d(2)

    def forward(self, x: Tensor) -> Tensor:
        r"""
        :param torch.Tensor x: inputs of shape :math:`(B, C, *spatial)`, each spatial
            size a multiple of :math:`2^{depth - 1}`.
        :return: (:class:`torch.Tensor`) outputs of the same spatial sizes.
        """
        x = _saturated(x)
        features = _saturated(self.encoder[0](x))
        skipped = []
        for level in self.encoder[1:]:
            skipped.append(features)
            features = _saturated(level(self.pool(features)))
        for upsampled, level in zip(self.upsampled, self.decoder, strict=True):
            features = upsampled(
                interpolate(features, scale_factor=2, mode=self.interpolation)
            )
            features = _saturated(level(torch.cat((features, skipped.pop()), dim=1)))
        outputs: Tensor = self.output(features) + self.shortcut(x)
        return outputs


class Convolution(nn.Module):
    r"""
    A convolution without bias that keeps the size of the image, and whose kernel
    saturates at :math:`\pm 10^5`.

    :param int dim: number of spatial axes, 2 or 3.
    :param int in_channels: number of inputs.
    :param int out_channels: number of outputs.
    :param int kernel_size: odd size of the kernel in each axis.
    """

    def __init__(
        self, dim: int, in_channels: int, out_channels: int, kernel_size: int
    ) -> None:
        super().__init__()
        layer = (nn.Conv2d if dim == 2 else nn.Conv3d)(
            in_channels, out_channels, kernel_size, bias=False
        )
        self.weight = layer.weight  # with the initial values of torch's layers

    def forward(self, x: Tensor) -> Tensor:
        r"""
        :param torch.Tensor x: images of shape :math:`(B, C, *spatial)`.
        :return: (:class:`torch.Tensor`) images of the same spatial sizes.
        """
        weight = self.weight.clamp(-_LARGEST_WEIGHT, _LARGEST_WEIGHT)
        convolve = conv2d if weight.ndim == 4 else conv3d
        return convolve(x, weight, padding=weight.shape[-1] // 2)

    def extra_repr(self) -> str:
        """Return what the representation shows: channels and sizes."""
        out_channels, in_channels, *sizes = self.weight.shape
        return f"{in_channels}, {out_channels}, kernel_size={tuple(sizes)}"


def _saturated(x: Tensor) -> Tensor:
    # Under autocast, features come in half precision, which is smaller.
    limit = min(_LARGEST_FEATURE, torch.finfo(x.dtype).max)
    return x.clamp(-limit, limit)


def _double_convolution(dim: int, in_channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        Convolution(dim, in_channels, width, 3),
        nn.LeakyReLU(inplace=True),
        Convolution(dim, width, width, 3),
        nn.LeakyReLU(inplace=True),
    )
