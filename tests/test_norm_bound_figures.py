"""What tests/benchmarks/norm_bounds.py prints, on a layer of fewer channels."""

from __future__ import annotations

import pytest
import torch

from .benchmarks import norm_bounds


@pytest.fixture(scope="module")
def case() -> tuple[torch.Tensor, float]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 6, 3, 3, generator=generator, dtype=torch.float64)
    return weight, norm_bounds.truth(weight)


@pytest.mark.parametrize("name", norm_bounds.METHODS)
def test_which_of_the_methods_bound(
    name: str, case: tuple[torch.Tensor, float]
) -> None:
    weight, truth = case
    ratio = norm_bounds.METHODS[name](weight).item() / truth
    assert (ratio >= 1) is (name != "reshaped kernel (no bound)")


def test_ours_is_the_tightest_bound(case: tuple[torch.Tensor, float]) -> None:
    weight, truth = case
    ratios = {
        name: method(weight).item() / truth
        for name, method in norm_bounds.METHODS.items()
    }
    best = ratios.pop("ours")
    assert 1 <= best <= 1.02
    assert all(ratio > best for ratio in ratios.values() if ratio >= 1)
