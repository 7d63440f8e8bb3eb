"""The U-Net that estimates TV weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv3d, interpolate, pad

from .positivity import Positivity
from .tv_map import TVMap

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


class UNetTVMap(TVMap):
    r"""
    The weight that a U-Net estimates for each pixel and each group of directions
    :footcite:p:`kofler2023learning`:

    .. math::

        \Lambda_i = \operatorname{P}(\operatorname{N}(z)_{g(i)} + c_{g(i)}), \qquad
        i = 1, \dots, d,

    with a network :math:`\operatorname{N}` of convolutions without biases, residual (it
    adds :math:`z`, or a projection of it where channels and groups differ in number),
    and :math:`\operatorname{P}` that makes the weight positive. The constant :math:`c`
    is not trained: it is such that a network that returned zero would give
    ``initial_weight``, near which an untrained network is, for images of the order of
    1. ``UNetTVMap(in_channels=2, directions=(0, 1, 1))`` has the 97,216 parameters of
    the network for dynamic MRI (whose first output is the weight of space, as with
    ``directions=(1, 0, 0)``).

    Images are extended by ``padding``, and further to a multiple of :math:`2^{depth-1}`
    pixels, by reflection, or by their last pixel in axes that are too short for that;
    the map is cropped in the end. Any image size will do.

    Samples do not influence each other, training and evaluation are the same map, and
    the weight is positive and finite for all finite images and parameters.

    It departs from the paper in :math:`c`, which is zero there (and here with
    ``initial_weight=0.1 * math.log(2)``, to the floor of the positive function), in the
    extension to a multiple, for which the paper's code pools with a remainder, and in
    padding time series by reflection at test time too, where the code repeats them
    periodically.

    :param int in_channels: real channels of the images: the real and imaginary parts of
        a complex channel are two.
    :param list, tuple directions: the group of each spatial axis, see
        :class:`~deepinv_equilibrium.models.TVMap`. It has 2 entries for images and 3
        for volumes and time series.
    :param int filters: channels of the first level; each further level has twice as
        many.
    :param int depth: number of levels.
    :param deepinv_equilibrium.models.Positivity, None positivity: the function
        :math:`\operatorname{P}`. ``None`` is :class:`Softplus()
        <deepinv_equilibrium.models.Softplus>`.
    :param float, list initial_weight: the weight to start from, in the unit of the
        images, or one for each group.
    :param int, list, None padding: pixels by which the images are extended on both
        sides, one number for all spatial axes or one for each. ``None`` is 4, and 8 in
        the first of three axes, which is that of time in a time series.
    :raises TypeError: if an argument is of another type.
    :raises ValueError: if an argument is out of its range.

    |sep|

    :Example:

    >>> import torch
    >>> from deepinv_equilibrium.models import UNetTVMap
    >>> tv_map = UNetTVMap(in_channels=1, directions=(0, 0))
    >>> with torch.no_grad():
    ...     weight = tv_map(torch.rand(4, 1, 37, 50))
    >>> weight.shape
    torch.Size([4, 1, 2, 37, 50])
    """

    offset: Tensor

    def __init__(
        self,
        in_channels: int,
        directions: Sequence[int],
        filters: int = 8,
        depth: int = 3,
        positivity: Positivity | None = None,
        initial_weight: float | Sequence[float] = 0.1,
        padding: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__(directions, positivity)
        for name, value in (
            ("in_channels", in_channels),
            ("filters", filters),
            ("depth", depth),
        ):
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}.")
        self.in_channels = in_channels
        self.padding = _check_padding(padding, len(self.directions))
        self._multiple = 2 ** (depth - 1)
        offset = torch.tensor(self.raw_weight_of(initial_weight))
        self.register_buffer("offset", offset)  # saved: the map depends on it
        self.network = UNet(
            len(self.directions), in_channels, self.groups, filters, depth
        )

    def raw_weight(self, z: Tensor) -> Tensor:
        r"""
        :param torch.Tensor z: real images of shape :math:`(B, C, *spatial)`.
        :return: (:class:`torch.Tensor`) the outputs of the network, shifted by
            :math:`c`, of shape :math:`(B, G, *spatial)`.
        :raises TypeError: if the network has another dtype than ``z``.
        :raises ValueError: if ``z`` has another number of channels.
        """
        if z.shape[1] != self.in_channels:
            raise ValueError(
                f"the input z of the map, an image made of the measurement, has "
                f"{z.shape[1]} real channels (a complex one counts twice), and the map "
                f"was made for in_channels={self.in_channels}."
            )
        dtype = self.network.output.weight.dtype
        if z.dtype != dtype:
            raise TypeError(
                f"z has the precision of {z.dtype}, and the network of {dtype}; convert"
                f" the network with .to({z.dtype}), or the image."
            )
        raw = self.network(_extend(z, self.padding, self._multiple))
        for axis, (size, before) in enumerate(
            zip(z.shape[2:], self.padding, strict=True), start=2
        ):
            raw = raw.narrow(axis, before, size)
        return raw + self.offset.view(1, -1, *[1] * len(self.directions))

    def extra_repr(self) -> str:
        """Return what the representation shows first: channels, directions, padding."""
        return (
            f"in_channels={self.in_channels}, {super().extra_repr()}, "
            f"padding={self.padding}"
        )


def _check_padding(padding: int | Sequence[int] | None, d: int) -> tuple[int, ...]:
    if padding is None:
        return (8, 4, 4) if d == 3 else (4, 4)
    sizes = tuple(padding) if isinstance(padding, Sequence) else (padding,) * d
    if len(sizes) != d or not all(type(size) is int and size >= 0 for size in sizes):
        raise ValueError(
            f"padding must be a nonnegative integer, or {d} of them for directions of "
            f"{d} axes, got {padding!r}."
        )
    return sizes


def _extend(x: Tensor, padding: tuple[int, ...], multiple: int) -> Tensor:
    """Extend each spatial axis on both sides, and on the far one to a multiple."""
    margins: dict[str, list[int]] = {"reflect": [], "replicate": []}
    # torch wants the last axis first.
    for size, before in zip(reversed(x.shape[2:]), reversed(padding), strict=True):
        after = before + -(size + 2 * before) % multiple
        mode = "reflect" if size > after else "replicate"
        for name, margin in margins.items():
            margin += [before, after] if name == mode else [0, 0]
    for name, margin in margins.items():
        if any(margin):
            x = pad(x, margin, mode=name)
    return x
