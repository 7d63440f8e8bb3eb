from __future__ import annotations

import math

import pytest
import torch

from deepinv_equilibrium.datasets import CinePhantom, cine_phantom
from deepinv_equilibrium.datasets.cine_phantom import _contraction
from deepinv_equilibrium.datasets.ellipses import soft_ellipse


def magnitude(x: torch.Tensor) -> torch.Tensor:
    return x.norm(dim=0)


def test_anatomy_is_the_same_at_every_size_and_number_of_frames() -> None:
    fine = magnitude(CinePhantom(1, (2, 6, 128, 192))[0]["x"])
    coarse = magnitude(CinePhantom(1, (2, 3, 32, 48))[0]["x"])
    pooled = torch.nn.functional.avg_pool2d(fine[::2], 4)
    assert (pooled - coarse).abs().mean() < 0.01
    assert (pooled - coarse.flip(-1)).abs().mean() > 0.05


@pytest.mark.parametrize("seed", range(10))
def test_centre_moves_and_rest_is_constant_in_time(seed: int) -> None:
    x = CinePhantom(1, (2, 12, 64, 64), seed=seed)[0]["x"]
    moving = x.std(dim=1).norm(dim=0) > 0.01
    assert 0.03 < moving.float().mean() < 0.15
    rows, columns = moving.nonzero().unbind(-1)
    assert 10 < rows.min() < rows.max() < 48
    assert 8 < columns.min() < columns.max() < 52
    still = x[:, :, ~moving]
    assert (still - still[:, :1]).abs().max() < 0.05
    # Most of the detail in space is constant in time.
    details = x[:, 0].diff(dim=-1).norm(dim=0)
    assert details[~moving[:, 1:]].sum() > 2 * details[moving[:, 1:]].sum()


def test_phase_is_smooth_and_constant_in_time() -> None:
    x = CinePhantom(1, (2, 4, 64, 64))[0]["x"].double()
    body = magnitude(x).amin(dim=0) > 0.05
    turns = torch.complex(x[0], x[1]) / magnitude(x)
    for axis in (-1, -2):
        step = (turns.roll(-1, axis) * turns.conj()).angle().abs()
        both = body & body.roll(-1, axis)
        assert step[:, both].max() < 0.25
    assert (turns[:, body] - turns[:1, body]).abs().max() < 1e-5


def test_contraction_takes_40_percent_of_a_cycle() -> None:
    cycles = torch.tensor([0.0, 0.2, 0.4, 0.7, 1.0, 1.4], dtype=torch.float64)
    expected = torch.tensor([0.0, 0.5, 1.0, 0.5, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(_contraction(cycles), expected, rtol=0, atol=1e-12)


def test_left_ventricle_contracts_with_constant_area_of_muscle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moving = []

    def record(size, centre, axes, angle=0.0):
        if isinstance(axes[0], torch.Tensor):
            moving.append(axes)
        return soft_ellipse(size, centre, axes, angle)

    monkeypatch.setattr(cine_phantom, "soft_ellipse", record)
    CinePhantom(1, (2, 24, 8, 8))[0]
    outside, inside = (
        math.pi * a * b for a, b in moving[2:]
    )  # the first two are the right one
    muscle = outside - inside
    torch.testing.assert_close(muscle, muscle[:1].expand_as(muscle))
    assert 0.6 <= float((inside.min() / inside.max()).sqrt()) <= 0.76
