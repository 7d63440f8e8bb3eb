from __future__ import annotations

import pytest
import torch
from torch import nn

from deepinv_equilibrium.models.denoisers.bounded_convolution import (
    WeightVersion,
    is_cacheable,
)


def changes() -> dict[str, object]:
    return {
        "in place": lambda w: w.mul_(2),
        "data": lambda w: setattr(w, "data", w.data.clone()),
        "dtype": lambda w: setattr(w, "data", w.data.double()),
    }


@pytest.mark.parametrize("name", changes())
def test_weight_version_detects_changes(name: str) -> None:
    weight = nn.Parameter(torch.ones(3))
    version = WeightVersion(weight)
    assert version.matches(weight)
    with torch.no_grad():
        changes()[name](weight)
    assert not version.matches(weight)
    assert WeightVersion(weight).matches(weight)
    assert not version.matches(nn.Parameter(torch.ones(3)))


def test_weight_version_still_matches_after_a_backward_pass() -> None:
    weight = nn.Parameter(torch.ones(3))
    version = WeightVersion(weight)
    (2 * weight).sum().backward()
    assert version.matches(weight)


def test_is_cacheable_is_false_for_other_tensors_and_within_transforms() -> None:
    weight = nn.Parameter(torch.ones(3))
    assert is_cacheable(weight)
    assert not is_cacheable(2 * weight)
    with torch.inference_mode():
        assert not is_cacheable(nn.Parameter(torch.ones(3)))
    seen = []

    def function(x):
        seen.append(is_cacheable(weight))
        return x.sum()

    torch.func.grad(function)(torch.ones(2))
    assert seen == [False]
