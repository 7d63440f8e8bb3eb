"""Random ellipses, as reconstructions in tomography are trained on."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from .seeded_images import SeededImages
from .soft_ellipse import soft_ellipse

_ELLIPSES = 50
_FIELD_OF_VIEW = 0.95


class RandomEllipses(SeededImages):
    r"""
    Grey images of fifty random ellipses each, on which learned reconstructions in
    tomography are trained :footcite:p:`adler2018learned`.

    In lengths where the image goes from -1 to 1 in both axes, an ellipse has its centre
    uniformly in the image, semi-axes that are exponential with mean 0.2, a uniform
    angle, and adds :math:`(u - \tfrac12) c` to the image, with :math:`u` uniform in
    :math:`[0, 1]` and :math:`c` exponential with mean 0.4. The sum is clipped to
    :math:`[0, 1]` and cut to a disc of radius 0.95, which a scan covers.

    These are the ellipses of deepinv's ``RandomPhantomDataset``. It departs from there
    in that sample ``i`` depends on ``seed`` and ``i`` only, where deepinv draws anew
    from NumPy's global generator at each access, in the disc, in anti-aliased edges,
    and in a number of ellipses that is not random.

    A sample is ``{"x": x}`` with ``x`` of shape ``(1, H, W)``, in torch's default
    dtype. Use different seeds to train and to test.

    :param int length: number of samples.
    :param tuple img_size: ``(H, W)``.
    :param int seed: seed of the ellipses.
    :param Callable, None transform: applied to ``x``.
    :raises ValueError: if ``length`` is less than 1 or ``img_size`` is not two positive
        integers.
    :raises IndexError: if a sample is out of range.

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
