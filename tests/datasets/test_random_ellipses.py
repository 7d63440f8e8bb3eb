from __future__ import annotations

import pytest
import torch
from deepinv.datasets import check_dataset
from torch.utils.data import default_collate

from deepinv_equilibrium.datasets import RandomEllipses
from deepinv_equilibrium.datasets.ellipses import pixel_centres


@pytest.mark.parametrize("size", [(64, 64), (33, 50), (1, 1), (1, 7)])
def test_samples_are_what_deepinv_expects(size) -> None:
    dataset = RandomEllipses(3, size)
    check_dataset(dataset, allow_non_tensor=False)
    samples = [sample["x"] for sample in dataset]
    assert len(samples) == len(dataset) == 3
    for x in samples:
        assert x.shape == (1, *size)
        assert x.dtype == torch.float32
        assert x.min() >= 0
        assert x.max() <= 1


def test_a_sample_depends_on_the_seed_and_its_number_only() -> None:
    state, size = torch.get_rng_state(), (16, 16)
    long, short = RandomEllipses(50, size, seed=4), RandomEllipses(3, size, seed=4)
    batch = default_collate([long[i] for i in range(3)])["x"]
    for i in (2, 0, 1):
        assert torch.equal(short[i]["x"], batch[i])
    assert torch.equal(short[-1]["x"], batch[2])
    others = [short[1]["x"], RandomEllipses(3, size, seed=5)[0]["x"]]
    assert all((batch[0] - x).abs().max() > 0.1 for x in others)
    assert torch.equal(torch.get_rng_state(), state)
    first = RandomEllipses(12, size, seed=1)[11]["x"]
    assert not torch.equal(first, RandomEllipses(12, size, seed=11)[1]["x"])


def test_the_same_ellipses_at_every_size() -> None:
    fine = RandomEllipses(1, (128, 192))[0]["x"]
    coarse = RandomEllipses(1, (32, 48))[0]["x"]
    pooled = torch.nn.functional.avg_pool2d(fine, 4)
    distance = (pooled - coarse).abs().mean()
    assert distance < 0.005
    assert distance < 0.2 * (pooled - coarse.flip(-1)).abs().mean()


@pytest.mark.parametrize("size", [(64, 64), (40, 60)])
def test_ellipses_are_in_the_disc_and_up_to_its_edge(size) -> None:
    mean = torch.stack([sample["x"] for sample in RandomEllipses(20, size)]).mean(0)
    y, x = pixel_centres(size)
    radius = torch.hypot(y, x)
    assert not mean[0][radius > 0.95 + 2 / min(size)].any()
    for inner in (0.0, 0.3, 0.6, 0.85):
        ring = (radius >= inner) & (radius < inner + 0.08)
        assert 0.02 < mean[0][ring].mean() < 0.4


def test_most_of_an_image_is_flat() -> None:
    for sample in RandomEllipses(10, (128, 128)):
        x = sample["x"][0]
        steps = torch.hypot(x[1:, :-1] - x[:-1, :-1], x[:-1, 1:] - x[:-1, :-1])
        assert 0.01 < (steps > 1e-3).double().mean() < 0.4


def test_samples_have_the_default_dtype_and_the_transform() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        x = RandomEllipses(1, (8, 8))[0]["x"]
        assert x.dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    doubled = RandomEllipses(1, (8, 8), transform=lambda x: 2 * x)[0]["x"]
    torch.testing.assert_close(doubled, 2 * x.float())


@pytest.mark.parametrize("index", [3, -4])
def test_a_sample_out_of_range_is_named(index: int) -> None:
    with pytest.raises(IndexError, match=f"sample {index} of 3"):
        RandomEllipses(3, (8, 8))[index]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "length must be at least 1, got 0"),
        ((3, (1, 8, 8)), r"\(H, W\), got \(1, 8, 8\)"),
        ((3, (8, 0)), r"got \(8, 0\)"),
        ((3, (8, 8.0)), r"got \(8, 8\.0\)"),
    ],
)
def test_bad_arguments_are_named(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        RandomEllipses(*arguments)
