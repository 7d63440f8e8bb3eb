"""Synthetic dynamic images of a beating heart."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from .ellipses import pixel_centres, soft_ellipse
from .seeded_images import SeededImages


class CinePhantom(SeededImages):
    r"""
    Synthetic cine images of a beating heart in the short-axis view, in a chest at rest.

    Each sample is a series of frames :math:`m_t e^{i \varphi}` with magnitudes
    :math:`m_t \in [0, 1]` and a smooth phase :math:`\varphi`:

    - *at rest*: chest wall, lungs with vessels, spine, aorta and other organs. They are
      ellipses of random position, size and intensity with a fine texture.
    - *moving*: the ventricles, each of constant intensity. The left one is a ring of
      muscle of constant area around a cavity with two papillary muscles. The cavity
      contracts by 25 to 40 % of its radius and twists. The frames cover about one
      cycle, of which 40 % is contraction. The heart drifts as it does with breathing.

    Most of an image thus has detail in space and not in time, and its centre has detail
    in time and not in space: regularisation parameters that are good for one part are
    poor for the other. Edges are anti-aliased. The anatomy scales with the height and
    the width of the image.

    A sample is ``{"x": x}`` with ``x`` of shape ``(2, T, H, W)``, the real and the
    imaginary part, in torch's default dtype. Sample ``i`` depends on ``seed`` and ``i``
    only. Use different seeds for training and test.

    :param int length: number of samples, at least 1.
    :param tuple img_size: ``(2, T, H, W)``. Default: ``(2, 12, 64, 64)``.
    :param int seed: seed of the dataset. Default: 0.
    :param Callable transform: function applied to ``x``. Default: ``None``.
    :raises ValueError: if ``length`` is less than 1 or ``img_size`` is not
        ``(2, T, H, W)`` with positive integers.
    :raises IndexError: on access to a sample that does not exist.

    |sep|

    :Example:

    >>> from deepinv_equilibrium.datasets import CinePhantom
    >>> dataset = CinePhantom(10, (2, 12, 64, 64), seed=1)
    >>> len(dataset), dataset[0]["x"].shape
    (10, torch.Size([2, 12, 64, 64]))
    """

    def __init__(
        self,
        length: int,
        img_size: tuple[int, int, int, int] = (2, 12, 64, 64),
        *,
        seed: int = 0,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        size = tuple(img_size)
        integers = all(isinstance(n, int) and n > 0 for n in size)
        if not (integers and len(size) == 4 and size[0] == 2):
            raise ValueError(
                "img_size must be (2, T, H, W), with the real and the imaginary part "
                f"as channels, got {img_size!r}."
            )
        super().__init__(length, size, seed, transform)

    def draw(self, rng: Random) -> Tensor:
        """See :class:`~deepinv_equilibrium.datasets.SeededImages`."""
        _, frames, height, width = self.img_size
        size = (height, width)
        magnitude = _chest(rng, size)[None] * _texture(rng, size)
        magnitude = _paint_heart(magnitude, rng, frames, size).clamp(0, 1)
        phase = _phase(rng, size)
        x = torch.stack([magnitude * phase.cos(), magnitude * phase.sin()])
        return x.to(torch.get_default_dtype())


def _paint(image: Tensor, coverage: Tensor, value: float) -> Tensor:
    """Blend a value into an image where an ellipse covers it."""
    return image + coverage * (value - image)


def _chest(rng: Random, size: tuple[int, int]) -> Tensor:
    """Return the magnitude of the part at rest, without texture."""
    draw = rng.uniform
    height, width = draw(0.62, 0.74), draw(0.82, 0.92)
    rim = draw(0.05, 0.1)
    layers = [
        ((0.0, 0.0), (height, width), 0.0, draw(0.5, 0.7)),  # fat
        ((0.0, 0.0), (height - rim, width - rim), 0.0, draw(0.35, 0.5)),  # muscle
    ]
    for side in (-1, 1):
        centre = (draw(-0.1, 0.1), side * draw(0.42, 0.5))
        axes = (draw(0.36, 0.46), draw(0.2, 0.28))
        layers.append((centre, axes, draw(-0.2, 0.2), draw(0.05, 0.12)))
        for _ in range(8):  # vessels of the lung
            down, right, radius = draw(-0.7, 0.7), draw(-0.7, 0.7), draw(0.02, 0.045)
            place = (centre[0] + down * axes[0], centre[1] + right * axes[1])
            layers.append((place, (radius, radius), 0.0, draw(0.3, 0.6)))
    layers.append(  # the tissue around the heart
        ((draw(-0.12, -0.06), 0.0), (0.44, 0.4), draw(-0.2, 0.2), draw(0.3, 0.42))
    )
    spine = (height - rim - 0.14, draw(-0.04, 0.04))
    layers += [
        (spine, (0.1, 0.13), 0.0, draw(0.5, 0.65)),
        ((spine[0] + 0.05, spine[1]), (0.035, 0.04), 0.0, draw(0.8, 0.95)),
        ((spine[0] - 0.12, spine[1] + 0.14), (0.06, 0.06), 0.0, draw(0.7, 0.9)),
    ]
    for _ in range(rng.randint(4, 8)):
        turn, reach = draw(0, math.tau), draw(0.75, 0.85)
        centre = (reach * height * math.sin(turn), reach * width * math.cos(turn))
        axes = (draw(0.03, 0.1), draw(0.03, 0.1))
        layers.append((centre, axes, draw(0, math.pi), draw(0.15, 0.9)))
    image = torch.zeros(size, dtype=torch.float64)
    for centre, axes, angle, value in layers:
        image = _paint(image, soft_ellipse(size, centre, axes, angle), value)
    return image


def _paint_heart(
    image: Tensor, rng: Random, frames: int, size: tuple[int, int]
) -> Tensor:
    """Paint both ventricles of every frame over an image of shape (1, H, W)."""
    draw = rng.uniform
    time = torch.arange(frames, dtype=torch.float64)[:, None, None] / frames
    contraction = _contraction(draw(0, 1) + draw(0.9, 1.1) * time)
    sway = torch.sin(math.tau * (draw(0, 1) + draw(0.4, 0.8) * time))
    down = draw(-0.14, -0.06) + draw(0.015, 0.035) * sway
    right = draw(0.05, 0.12) + draw(0.0, 0.015) * sway
    muscle, blood = draw(0.25, 0.38), draw(0.75, 0.95)

    cavity = draw(0.17, 0.21)
    outer = cavity + draw(0.08, 0.11)
    inside = cavity * (1 - draw(0.25, 0.4) * contraction)
    outside = (inside.square() + outer**2 - cavity**2).sqrt()  # constant area
    oval, turn = draw(0.9, 1.1), draw(0, math.pi) + draw(0.1, 0.3) * contraction

    # The right ventricle is on the left side of the image, behind the left ventricle.
    length, depth = outer * draw(0.95, 1.15), outer * draw(0.7, 0.85)
    shrink = 1 - draw(0.15, 0.3) * contraction
    side = (down, right - outside - 0.35 * depth * shrink)
    wall = draw(0.025, 0.04)
    tilt = draw(-0.4, 0.4)
    for margin, value in ((wall, muscle), (0.0, blood * draw(0.85, 1.0))):
        axes = (length * shrink + margin, depth * shrink + margin)
        image = _paint(image, soft_ellipse(size, side, axes, tilt), value)

    centre = (down, right)
    for radius, value in ((outside, muscle), (inside, blood)):
        axes = (radius * oval, radius / oval)
        image = _paint(image, soft_ellipse(size, centre, axes, turn), value)
    for apart in (0.6, 2.4):
        place = (
            down + 0.6 * inside * torch.sin(turn + apart),
            right + 0.6 * inside * torch.cos(turn + apart),
        )
        image = _paint(image, soft_ellipse(size, place, (0.032, 0.032)), muscle)
    return image


def _contraction(cycles: Tensor) -> Tensor:
    """Return the contraction: 0 at diastole, 1 at systole after 40 % of a cycle."""
    part = cycles % 1
    warped = torch.where(part < 0.4, part / 0.8, 0.5 + (part - 0.4) / 1.2)
    return (1 - torch.cos(math.tau * warped)) / 2


def _texture(rng: Random, size: tuple[int, int]) -> Tensor:
    """Return a texture around 1 of spots with 4 to 14 cycles over the image."""
    y, x = pixel_centres(size)
    field = torch.zeros(size, dtype=torch.float64)
    for _ in range(24):
        cycles, turn = rng.uniform(4, 14), rng.uniform(0, math.pi)
        wave = math.pi * cycles * (math.sin(turn) * y + math.cos(turn) * x)
        field += torch.cos(wave + rng.uniform(0, math.tau)) / math.sqrt(12)
    # The steep slope of tanh at 0 gives the spots edges.
    return 1 + rng.uniform(0.12, 0.22) * torch.tanh(3 * field)


def _phase(rng: Random, size: tuple[int, int]) -> Tensor:
    """Return a random quadratic polynomial, in radians."""
    y, x = pixel_centres(size)
    terms = (torch.ones(()), y, x, y.square(), x * y, x.square())
    spans = (math.pi, 1.5, 1.5, 0.8, 0.8, 0.8)
    return sum(
        rng.uniform(-span, span) * term for span, term in zip(spans, terms, strict=True)
    ) * torch.ones(size)
