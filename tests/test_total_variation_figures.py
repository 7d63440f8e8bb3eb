"""What tests/benchmarks/total_variation.py compares: the same problem in all three."""

from __future__ import annotations

import functools

import pytest
import torch

from .benchmarks import total_variation as benchmark


@functools.cache
def problem(channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A noisy image, and the image without noise that all methods look for."""
    generator = torch.Generator().manual_seed(0)
    v = torch.rand(1, channels, 12, 10, dtype=torch.float64, generator=generator)
    return v, benchmark.truth(v, 0.1, 1e-9, iterations=500)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "effort"), [("ours", 1e10), ("deepinv", 1000), ("skimage", 3000)]
)
def test_all_converge_to_the_same_image(
    name: str, effort: float, channels: int
) -> None:
    v, exact = problem(channels)
    x, iterations = benchmark.METHODS[name][0](v, 0.1, effort)
    assert benchmark.relative_error(x, exact) < (1e-3 if name == "skimage" else 1e-5)
    assert iterations > 100


def test_costs_what_the_first_run_costs_that_is_accurate() -> None:
    v, exact = problem(1)
    for name in benchmark.METHODS:
        rough, fine = benchmark.cheapest(name, v, 0.1, exact, (1e-1, 1e-2))
        assert rough is not None
        assert fine is not None
        assert rough.iterations <= fine.iterations
        assert benchmark.relative_error(fine.image, exact) <= 1e-2
