from __future__ import annotations

import math

import pytest
import torch
from deepinv.datasets import check_dataset
from torch.utils.data import default_collate

from deepinv_equilibrium.datasets import CinePhantom, cine_phantom
from deepinv_equilibrium.datasets.cine_phantom import _contraction
from deepinv_equilibrium.datasets.ellipses import soft_ellipse


def magnitude(x: torch.Tensor) -> torch.Tensor:
    return x.norm(dim=0)


@pytest.mark.parametrize("size", [(2, 12, 64, 64), (2, 5, 33, 50), (2, 1, 1, 1)])
def test_samples_are_what_deepinv_expects(size) -> None:
    dataset = CinePhantom(3, size)
    check_dataset(dataset, allow_non_tensor=False)
    samples = [sample["x"] for sample in dataset]
    assert len(samples) == len(dataset) == 3
    for x in samples:
        assert x.shape == size
        assert x.dtype == torch.float32
        assert x.isfinite().all()
        assert magnitude(x).max() <= 1 + 1e-6


def test_a_sample_depends_on_the_seed_and_its_number_only() -> None:
    state, size = torch.get_rng_state(), (2, 3, 16, 16)
    long, short = CinePhantom(50, size, seed=4), CinePhantom(3, size, seed=4)
    batch = default_collate([long[i] for i in range(3)])["x"]
    for i in (2, 0, 1):
        assert torch.equal(short[i]["x"], batch[i])
    assert torch.equal(short[-1]["x"], batch[2])
    others = [short[1]["x"], CinePhantom(3, size, seed=5)[0]["x"]]
    assert all((batch[0] - x).abs().max() > 0.1 for x in others)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_anatomy_at_every_size_and_number_of_frames() -> None:
    fine = magnitude(CinePhantom(1, (2, 6, 128, 192))[0]["x"])
    coarse = magnitude(CinePhantom(1, (2, 3, 32, 48))[0]["x"])
    pooled = torch.nn.functional.avg_pool2d(fine[::2], 4)
    assert (pooled - coarse).abs().mean() < 0.01
    assert (pooled - coarse.flip(-1)).abs().mean() > 0.05


@pytest.mark.parametrize("seed", range(10))
def test_the_centre_beats_and_the_rest_stands_still(seed: int) -> None:
    x = CinePhantom(1, (2, 12, 64, 64), seed=seed)[0]["x"]
    moving = x.std(dim=1).norm(dim=0) > 0.01
    assert 0.03 < moving.float().mean() < 0.15
    rows, columns = moving.nonzero().unbind(-1)
    assert 10 < rows.min() < rows.max() < 48
    assert 8 < columns.min() < columns.max() < 52
    still = x[:, :, ~moving]
    assert (still - still[:, :1]).abs().max() < 0.05
    # Most of the detail in space stands still.
    details = x[:, 0].diff(dim=-1).norm(dim=0)
    assert details[~moving[:, 1:]].sum() > 2 * details[moving[:, 1:]].sum()


def test_the_phase_is_smooth_and_constant_in_time() -> None:
    x = CinePhantom(1, (2, 4, 64, 64))[0]["x"].double()
    body = magnitude(x).amin(dim=0) > 0.05
    turns = torch.complex(x[0], x[1]) / magnitude(x)
    for axis in (-1, -2):
        step = (turns.roll(-1, axis) * turns.conj()).angle().abs()
        both = body & body.roll(-1, axis)
        assert step[:, both].max() < 0.25
    assert (turns[:, body] - turns[:1, body]).abs().max() < 1e-5


def test_a_contraction_is_faster_than_the_relaxation() -> None:
    cycles = torch.tensor([0.0, 0.2, 0.4, 0.7, 1.0, 1.4], dtype=torch.float64)
    expected = torch.tensor([0.0, 0.5, 1.0, 0.5, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(_contraction(cycles), expected, rtol=0, atol=1e-12)


def test_the_left_ventricle_contracts_and_keeps_its_muscle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moving = []

    def record(size, centre, axes, angle=0.0):
        if isinstance(axes[0], torch.Tensor):
            moving.append(axes)
        return soft_ellipse(size, centre, axes, angle)

    monkeypatch.setattr(cine_phantom, "soft_ellipse", record)
    CinePhantom(1, (2, 24, 8, 8))[0]
    outside, inside = (math.pi * a * b for a, b in moving[2:])  # after the right one
    muscle = outside - inside
    torch.testing.assert_close(muscle, muscle[:1].expand_as(muscle))
    assert 0.6 <= float((inside.min() / inside.max()).sqrt()) <= 0.76


def test_samples_have_the_default_dtype_and_the_transform() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        x = CinePhantom(1, (2, 2, 8, 8))[0]["x"]
        assert x.dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    doubled = CinePhantom(1, (2, 2, 8, 8), transform=lambda x: 2 * x)[0]["x"]
    torch.testing.assert_close(doubled, 2 * x.float())


def test_seeds_and_numbers_are_not_exchanged() -> None:
    size = (2, 1, 8, 8)
    first = CinePhantom(12, size, seed=1)[11]["x"]
    assert not torch.equal(first, CinePhantom(12, size, seed=11)[1]["x"])


@pytest.mark.parametrize("index", [3, -4])
def test_a_sample_out_of_range_is_named(index: int) -> None:
    with pytest.raises(IndexError, match=f"sample {index} of 3"):
        CinePhantom(3, (2, 1, 8, 8))[index]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "length must be at least 1, got 0"),
        ((3, (1, 4, 8, 8)), r"\(2, T, H, W\).*got \(1, 4, 8, 8\)"),
        ((3, (2, 8, 8)), r"got \(2, 8, 8\)"),
        ((3, (2, 4, 8, 0)), r"got \(2, 4, 8, 0\)"),
        ((3, (2, 4, 8, 8.0)), r"got \(2, 4, 8, 8\.0\)"),
    ],
)
def test_bad_arguments_are_named(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        CinePhantom(*arguments)
