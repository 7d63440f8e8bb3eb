"""Anti-aliased ellipses, and a dataset of images made of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from .seeded_images import SeededImages

SMALLEST_SLOPE = 1e-6
"""Lower bound of :math:`q` and of its slope, which avoids divisions by 0. Values are
smaller only at the centre of an ellipse, far from its edge."""


def pixel_centres(img_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    r"""
    Return the coordinates of the pixels' centres. They run down and to the right, and
    the edges of the image are at -1 and 1.

    :param tuple[int, int] img_size: height and width in pixels.
    :return: tensors of shape ``(H, 1)`` and ``(W,)``, in float64.
    """
    height, width = img_size
    y = (2 * torch.arange(height, dtype=torch.float64) + 1) / height - 1
    x = (2 * torch.arange(width, dtype=torch.float64) + 1) / width - 1
    return y[:, None], x


def soft_ellipse(
    img_size: tuple[int, int],
    centre: tuple[float | Tensor, float | Tensor],
    axes: tuple[float | Tensor, float | Tensor],
    angle: float | Tensor = 0.0,
) -> Tensor:
    r"""
    Return the fraction of each pixel that an ellipse covers, to first order.

    With the distance :math:`q` to the centre in units of the semi-axes, the signed
    distance of a pixel to the boundary is :math:`d = (1 - q) / |\nabla q|` pixels, to
    first order. The fraction is :math:`\frac{1}{2} + d`, clipped to :math:`[0, 1]`. The
    area is accurate to one percent for semi-axes of three pixels or more; an ellipse
    smaller than a pixel becomes too large.

    Lengths are in the units of :func:`pixel_centres`. They are numbers, or tensors that
    broadcast with ``(H, W)``, such as ``(T, 1, 1)`` for an ellipse that moves.

    :param tuple[int, int] img_size: height and width in pixels.
    :param tuple centre: coordinates of the centre, down and to the right.
    :param tuple axes: semi-axes, down and to the right before the rotation.
    :param float, torch.Tensor angle: clockwise angle of the rotation in radians.
        Default: 0.
    :return: tensor of shape ``(..., H, W)`` with values in :math:`[0, 1]`, in float64.
    """
    down, right = pixel_centres(img_size)
    down, right = down - centre[0], right - centre[1]
    turn = torch.as_tensor(angle, dtype=torch.float64)
    cos, sin = turn.cos(), turn.sin()
    u = (cos * down - sin * right) / axes[0]
    v = (sin * down + cos * right) / axes[1]
    q = torch.hypot(u, v)
    slope_down = (u * cos / axes[0] + v * sin / axes[1]) * (2 / img_size[0])
    slope_right = (v * cos / axes[1] - u * sin / axes[0]) * (2 / img_size[1])
    slope = torch.hypot(slope_down, slope_right) / q.clamp(min=SMALLEST_SLOPE)
    distance = (1 - q) / slope.clamp(min=SMALLEST_SLOPE)
    return (0.5 + distance).clamp(0, 1)


_ELLIPSES = 50
_FIELD_OF_VIEW = 0.95


class RandomEllipses(SeededImages):
    r"""
    Grey images of 50 random ellipses, as used to train learned reconstructions in
    tomography :footcite:p:`adler2018learned`.

    The edges of the image are at -1 and 1 along both axes. Each ellipse has a centre
    uniform in the image, exponential semi-axes of mean 0.2 and a uniform angle. It adds
    :math:`(u - \tfrac12) c` to the image, with :math:`u` uniform in :math:`[0, 1]` and
    :math:`c` exponential with mean 0.4. The sum is clipped to :math:`[0, 1]` and set to
    0 outside a disc of radius 0.95, which a scan covers.

    The distribution is that of deepinv's ``RandomPhantomDataset``, with these
    departures: sample ``i`` depends on ``seed`` and ``i`` only, whereas deepinv draws
    new numbers from NumPy's global generator at each access; the images are cut to a
    disc; edges are anti-aliased; the number of ellipses is fixed.

    A sample is ``{"x": x}`` with ``x`` of shape ``(1, H, W)``, in torch's default
    dtype. Use different seeds for training and test.

    :param int length: number of samples, at least 1.
    :param tuple img_size: ``(H, W)``. Default: ``(64, 64)``.
    :param int seed: seed of the dataset. Default: 0.
    :param Callable transform: function applied to ``x``. Default: ``None``.
    :raises ValueError: if ``length`` is less than 1 or ``img_size`` is not two positive
        integers.
    :raises IndexError: on access to a sample that does not exist.

    |sep|

    :Example:

    >>> from deepinv_equilibrium.datasets import RandomEllipses
    >>> dataset = RandomEllipses(10, (64, 64), seed=1)
    >>> len(dataset), dataset[0]["x"].shape
    (10, torch.Size([1, 64, 64]))
    """

    def __init__(
        self,
        length: int,
        img_size: tuple[int, int] = (64, 64),
        *,
        seed: int = 0,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        size = tuple(img_size)
        if not (len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)):
            raise ValueError(f"img_size must be (H, W), got {img_size!r}.")
        super().__init__(length, size, seed, transform)

    def draw(self, rng: Random) -> Tensor:
        """See :class:`~deepinv_equilibrium.datasets.SeededImages`."""
        height, width = self.img_size
        size = (height, width)
        image = torch.zeros(size, dtype=torch.float64)
        for _ in range(_ELLIPSES):
            value = (rng.random() - 0.5) * rng.expovariate(1 / 0.4)
            axes = (rng.expovariate(1 / 0.2), rng.expovariate(1 / 0.2))
            centre = (rng.uniform(-1, 1), rng.uniform(-1, 1))
            angle = rng.uniform(0, math.pi)
            image += value * soft_ellipse(size, centre, axes, angle)
        disc = soft_ellipse(size, (0, 0), (_FIELD_OF_VIEW, _FIELD_OF_VIEW))
        return (disc * image.clamp(0, 1)).to(torch.get_default_dtype())[None]
