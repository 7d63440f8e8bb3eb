from __future__ import annotations

import pytest
import torch
from torch import nn

from deepinv_equilibrium.models.denoisers.bounded_convolution import (
    WeightVersion,
    has_version,
)


def changes() -> dict[str, object]:
    return {
        "in place": lambda w: w.mul_(2),
        "data": lambda w: setattr(w, "data", w.data.clone()),
        "dtype": lambda w: setattr(w, "data", w.data.double()),
    }


@pytest.mark.parametrize("name", changes())
def test_every_change_is_seen(name: str):
    weight = nn.Parameter(torch.ones(3))
    version = WeightVersion(weight)
    assert version.is_that_of(weight)
    with torch.no_grad():
        changes()[name](weight)
    assert not version.is_that_of(weight)
    assert WeightVersion(weight).is_that_of(weight)
    assert not version.is_that_of(nn.Parameter(torch.ones(3)))


def test_reading_is_no_change():
    weight = nn.Parameter(torch.ones(3))
    version = WeightVersion(weight)
    (2 * weight).sum().backward()
    assert version.is_that_of(weight)


def test_nothing_is_kept_of_stand_ins_or_within_transforms():
    weight = nn.Parameter(torch.ones(3))
    assert has_version(weight)
    assert not has_version(2 * weight)
    with torch.inference_mode():
        assert not has_version(nn.Parameter(torch.ones(3)))
    seen = []

    def function(x):
        seen.append(has_version(weight))
        return x.sum()

    torch.func.grad(function)(torch.ones(2))
    assert seen == [False]
