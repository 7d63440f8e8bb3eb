"""A U-Net that estimates TV weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv3d, interpolate, pad

from ...fixed_points.argument_checks import require_count
from .positivity import Positivity
from .tv_map import TVMap

# At most three convolutions follow each other between two saturations. With these
# limits they do not overflow float32 for thousands of inputs to a pixel.
_LARGEST_FEATURE = 1e9
_LARGEST_WEIGHT = 1e5


class UNet(nn.Module):
    r"""
    The U-Net of :footcite:t:`kofler2023learning`, in two or three dimensions, without
    biases and normalisation.

    The encoder has ``depth`` levels of two convolutions, each followed by a LeakyReLU
    of slope 0.01. Max-pooling by 2 leads to the next level, which has twice as many
    channels. A level of the decoder interpolates linearly by 2, halves the number of
    channels by a convolution, concatenates the features of the encoder at the same
    level, and applies two convolutions. A convolution of size 1 makes the outputs, to
    which the inputs are added. If the numbers of inputs and outputs differ, a
    convolution of size 1 projects the inputs. All other convolutions have size 3 and
    zero padding.

    We depart from the paper in two points. The projection has no bias. Kernels saturate
    at :math:`\pm 10^5`, and the inputs and the features of each level at :math:`\pm
    10^9`, so that the outputs are finite for all weights, even after a diverging
    training.

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
        Apply the network.

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
        Apply the convolution.

        :param torch.Tensor x: images of shape :math:`(B, C, *spatial)`.
        :return: (:class:`torch.Tensor`) images of the same spatial sizes.
        """
        weight = self.weight.clamp(-_LARGEST_WEIGHT, _LARGEST_WEIGHT)
        convolve = conv2d if weight.ndim == 4 else conv3d
        return convolve(x, weight, padding=weight.shape[-1] // 2)

    def extra_repr(self) -> str:
        """Return the numbers of channels and the size of the kernel."""
        out_channels, in_channels, *sizes = self.weight.shape
        return f"{in_channels}, {out_channels}, kernel_size={tuple(sizes)}"


def _saturated(x: Tensor) -> Tensor:
    # Under autocast, features are in half precision, which has a smaller range.
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
    A weight for each pixel and each group of directions that a U-Net estimates
    :footcite:p:`kofler2023learning`,

    .. math::

        \Lambda_i = \operatorname{P}(\operatorname{N}(z)_{g(i)} + c_{g(i)}), \qquad
        i = 1, \dots, d,

    where :math:`\operatorname{N}` is a residual network of convolutions without biases,
    and :math:`\operatorname{P}` makes the weight positive. The network adds :math:`z`
    to its output, or a projection of :math:`z` if the numbers of channels and groups
    differ. The constant :math:`c` is not trained: a network that returns zero gives
    ``initial_weight``. An untrained network is near this weight for images of the order
    of 1. ``UNetTVMap(in_channels=2, directions=(0, 1, 1))`` has the 97,216 parameters
    of the network for dynamic MRI (whose first output is the weight of space, as with
    ``directions=(1, 0, 0)``).

    Images of any size are extended by ``padding``, and further to a multiple of
    :math:`2^{depth-1}` pixels. They are extended by reflection, or by repeating the
    last pixel in axes that are too short for reflection. The map is cropped to the size
    of the image.

    Samples do not influence each other, training and evaluation mode are the same map,
    and the weight is positive and finite for all finite images and parameters.

    We depart from the paper in three points. In the paper, :math:`c` is zero (as here
    with ``initial_weight=0.1 * math.log(2)``, up to the floor of the positive
    function). The code of the paper does not extend images to a multiple, but pools
    with a remainder. At test time, the code repeats time series periodically; here they
    are extended by reflection.

    :param int in_channels: real channels of the images. A complex channel counts as
        two, its real and imaginary parts.
    :param list, tuple directions: the group of each spatial axis, see
        :class:`~deepinv_equilibrium.models.TVMap`. It has 2 entries for images and 3
        for volumes and time series.
    :param int filters: channels of the first level; each further level has twice as
        many.
    :param int depth: number of levels.
    :param deepinv_equilibrium.models.Positivity, None positivity: the function
        :math:`\operatorname{P}`. Default: ``None``, :class:`Softplus()
        <deepinv_equilibrium.models.Softplus>`.
    :param float, list initial_weight: initial weight in the unit of the images, one for
        all groups or one for each.
    :param int, list, None padding: number of pixels by which the images are extended on
        both sides, one number for all spatial axes or one for each. Default: ``None``,
        4 for two axes and (8, 4, 4) for three, of which the first is time in a time
        series.
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
        require_count("in_channels", in_channels, 1)
        require_count("filters", filters, 1)
        require_count("depth", depth, 1)
        self.in_channels = in_channels
        self.padding = _check_padding(padding, len(self.directions))
        self._multiple = 2 ** (depth - 1)
        offset = torch.tensor(self.raw_weight_of(initial_weight))
        self.register_buffer("offset", offset)  # part of the state_dict
        self.network = UNet(
            len(self.directions), in_channels, self.groups, filters, depth
        )

    def raw_weight(self, z: Tensor) -> Tensor:
        r"""
        Return the outputs of the network, shifted by :math:`c`.

        :param torch.Tensor z: real images of shape :math:`(B, C, *spatial)`.
        :return: (:class:`torch.Tensor`) raw weights of shape :math:`(B, G, *spatial)`.
        :raises TypeError: if the network has another dtype than ``z``.
        :raises ValueError: if ``z`` has another number of channels.
        """
        if z.shape[1] != self.in_channels:
            raise ValueError(
                f"z, the image of the measurement, has {z.shape[1]} real channels (a "
                "complex channel counts twice), and the map was constructed with "
                f"in_channels={self.in_channels}."
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
        """Return the number of channels, the directions and the padding."""
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
    """Extend each spatial axis on both sides, and at its end to a multiple."""
    margins: dict[str, list[int]] = {"reflect": [], "replicate": []}
    # torch's pad starts with the last axis.
    for size, before in zip(reversed(x.shape[2:]), reversed(padding), strict=True):
        after = before + -(size + 2 * before) % multiple
        mode = "reflect" if size > after else "replicate"
        for name, margin in margins.items():
            margin += [before, after] if name == mode else [0, 0]
    for name, margin in margins.items():
        if any(margin):
            x = pad(x, margin, mode=name)
    return x
