from __future__ import annotations

import pytest
import torch

from deepinv_equilibrium.datasets import RandomEllipses
from deepinv_equilibrium.datasets.ellipses import pixel_centres


def test_ellipses_are_the_same_at_every_size() -> None:
    fine = RandomEllipses(1, (128, 192))[0]["x"]
    coarse = RandomEllipses(1, (32, 48))[0]["x"]
    pooled = torch.nn.functional.avg_pool2d(fine, 4)
    distance = (pooled - coarse).abs().mean()
    assert distance < 0.005
    assert distance < 0.2 * (pooled - coarse.flip(-1)).abs().mean()


@pytest.mark.parametrize("size", [(64, 64), (40, 60)])
def test_ellipses_fill_the_disc_and_nothing_else(size) -> None:
    mean = torch.stack([sample["x"] for sample in RandomEllipses(20, size)]).mean(0)
    y, x = pixel_centres(size)
    radius = torch.hypot(y, x)
    assert not mean[0][radius > 0.95 + 2 / min(size)].any()
    for inner in (0.0, 0.3, 0.6, 0.85):
        ring = (radius >= inner) & (radius < inner + 0.08)
        assert 0.02 < mean[0][ring].mean() < 0.4


def test_most_of_an_image_is_constant() -> None:
    for sample in RandomEllipses(10, (128, 128)):
        x = sample["x"][0]
        steps = torch.hypot(x[1:, :-1] - x[:-1, :-1], x[:-1, 1:] - x[:-1, :-1])
        assert 0.01 < (steps > 1e-3).double().mean() < 0.4
