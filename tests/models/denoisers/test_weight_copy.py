from __future__ import annotations

import torch
from torch import nn

from deepinv_equilibrium.models.denoisers.weight_copies import (
    WeightCopy,
    is_cacheable,
)

from ...one_test import in_one_test


def write(weight: nn.Parameter, value: float) -> None:
    weight[1] = value


CHANGES = {
    "in place": lambda w: write(w, 2.0),
    "through data": lambda w: write(w.data, 2.0),
    "data replaced": lambda w: setattr(w, "data", w.data + 1),
    "foreach": lambda w: torch._foreach_mul_([w.data], 2.0),
    "numpy": lambda w: write(w.detach().numpy(), 2.0),
    "dtype": lambda w: setattr(w, "data", w.data.double()),
    "NaN": lambda w: w.data.fill_(torch.nan),
}


@in_one_test("name", CHANGES)
def test_weight_copy_detects_changes(name: str) -> None:
    weight = nn.Parameter(torch.ones(3))
    copy = WeightCopy(weight)
    assert copy.matches(weight)
    with torch.no_grad():
        CHANGES[name](weight)
    assert not copy.matches(weight)
    assert WeightCopy(weight).matches(weight) == (name != "NaN")
    assert copy.matches(nn.Parameter(torch.ones(3)))


def test_weight_copy_still_matches_after_a_backward_pass() -> None:
    weight = nn.Parameter(torch.ones(3))
    copy = WeightCopy(weight)
    (2 * weight).sum().backward()
    assert copy.matches(weight)


def test_is_cacheable_is_false_for_other_tensors_and_within_transforms() -> None:
    weight = nn.Parameter(torch.ones(3))
    assert is_cacheable(weight)
    assert not is_cacheable(2 * weight)
    assert not is_cacheable(weight.to("meta"))
    with torch.inference_mode():
        assert not is_cacheable(nn.Parameter(torch.ones(3)))
    seen = []

    def function(x):
        seen.append(is_cacheable(weight))
        return x.sum()

    torch.func.grad(function)(torch.ones(2))
    assert seen == [False]
