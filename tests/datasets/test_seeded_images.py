"""What all datasets of seeded images have in common."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from deepinv.datasets import check_dataset
from torch.utils.data import default_collate

from deepinv_equilibrium.datasets import CinePhantom, RandomEllipses

from ..one_test import in_one_test

SMALL = {CinePhantom: (2, 3, 16, 16), RandomEllipses: (16, 16)}


@pytest.fixture(params=SMALL, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (CinePhantom, (2, 12, 64, 64)),
        (CinePhantom, (2, 5, 33, 50)),
        (CinePhantom, (2, 1, 1, 1)),
        (RandomEllipses, (64, 64)),
        (RandomEllipses, (33, 50)),
        (RandomEllipses, (1, 1)),
        (RandomEllipses, (1, 7)),
    ],
)
def test_samples_have_size_and_range_and_pass_check_of_deepinv(
    kind: Any, size: tuple[int, ...]
) -> None:
    dataset = kind(3, size)
    check_dataset(dataset, allow_non_tensor=False)
    samples = [sample["x"] for sample in dataset]
    assert len(samples) == len(dataset) == 3
    for x in samples:
        assert x.shape == (size if len(size) == 4 else (1, *size))
        assert x.dtype == torch.float32
        assert x.isfinite().all()
        assert x.norm(dim=0).max() <= 1 + 1e-6
        assert kind is CinePhantom or x.min() >= 0


def test_sample_depends_on_seed_and_number_only(kind: Any) -> None:
    state, size = torch.get_rng_state(), SMALL[kind]
    long, short = kind(50, size, seed=4), kind(3, size, seed=4)
    batch = default_collate([long[i] for i in range(3)])["x"]
    for i in (2, 0, 1):
        assert torch.equal(short[i]["x"], batch[i])
    assert torch.equal(short[-1]["x"], batch[2])
    others = [short[1]["x"], kind(3, size, seed=5)[0]["x"]]
    assert all((batch[0] - x).abs().max() > 0.1 for x in others)
    assert torch.equal(torch.get_rng_state(), state)


def test_seed_and_number_are_not_interchangeable(kind: Any) -> None:
    first = kind(12, SMALL[kind], seed=1)[11]["x"]
    assert not torch.equal(first, kind(12, SMALL[kind], seed=11)[1]["x"])


def test_samples_have_default_dtype_and_transform(kind: Any) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        x = kind(1, SMALL[kind])[0]["x"]
        assert x.dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    doubled = kind(1, SMALL[kind], transform=lambda x: 2 * x)[0]["x"]
    torch.testing.assert_close(doubled, 2 * x.float())


@in_one_test("index", [3, -4])
def test_index_out_of_range_is_named(kind: Any, index: int) -> None:
    with pytest.raises(IndexError, match=f"sample {index} of 3"):
        kind(3, SMALL[kind])[index]


@in_one_test(
    ("kind", "arguments", "message"),
    [
        (CinePhantom, (0,), "length must be at least 1, got 0"),
        (CinePhantom, (3, (1, 4, 8, 8)), r"\(2, T, H, W\).*got \(1, 4, 8, 8\)"),
        (CinePhantom, (3, (2, 8, 8)), r"got \(2, 8, 8\)"),
        (CinePhantom, (3, (2, 4, 8, 0)), r"got \(2, 4, 8, 0\)"),
        (CinePhantom, (3, (2, 4, 8, 8.0)), r"got \(2, 4, 8, 8\.0\)"),
        (RandomEllipses, (0,), "length must be at least 1, got 0"),
        (RandomEllipses, (3, (1, 8, 8)), r"\(H, W\), got \(1, 8, 8\)"),
        (RandomEllipses, (3, (8, 0)), r"got \(8, 0\)"),
        (RandomEllipses, (3, (8, 8.0)), r"got \(8, 8\.0\)"),
    ],
)
def test_bad_arguments_are_named(kind: Any, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(*arguments)
