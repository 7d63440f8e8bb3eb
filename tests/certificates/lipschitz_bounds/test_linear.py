from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import UncertifiableModuleError

from ...one_test import in_one_test
from ..dense_operator import norm

MODES = ["zeros", "replicate", "reflect", "circular"]


@in_one_test("scale", [1e-3, 1.0, 1e3])
@in_one_test("dtype", [torch.float32, torch.float64, torch.complex64])
def test_bound_of_a_linear_layer_is_its_spectral_norm(
    scale: float, dtype: torch.dtype
) -> None:
    layer = nn.Linear(7, 4, dtype=dtype)
    with torch.no_grad():
        layer.weight.mul_(scale)
    weight = layer.weight.detach().to(torch.complex128)
    truth = torch.linalg.svdvals(weight)[0].item()
    assert truth <= deq.lipschitz(layer).value <= truth * (1 + 1e-9)


def test_bound_of_a_linear_layer_without_features_is_0() -> None:
    with pytest.warns(UserWarning, match="zero-element"):
        layer = nn.Linear(0, 4)
    assert deq.lipschitz(layer).value == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_lipschitz_refuses_nonfinite_weights(value: float) -> None:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight[0, 0] = value
    with pytest.raises(UncertifiableModuleError, match="weight holds"):
        deq.lipschitz(layer)


@given(st.data())
def test_lipschitz_bounds_the_norm_of_a_convolution_edited_after_construction(
    data: st.DataObject,
) -> None:
    few = st.integers(0, 4)
    padding = data.draw(st.one_of(st.just("same"), st.integers(0, 5)))
    layer = nn.Conv1d(
        *(2, 2, data.draw(st.integers(1, 3))),
        padding=padding,
        padding_mode=data.draw(st.sampled_from(MODES)),
        dilation=data.draw(st.integers(1, 2)),
    ).double()
    edits = {
        "padding": st.one_of(few, st.just("valid"), few.map(lambda p: (p,))),
        "padding_mode": st.sampled_from(MODES),
        "_reversed_padding_repeated_twice": st.lists(few, min_size=2, max_size=2),
        "stride": st.integers(1, 3),
        "dilation": st.integers(1, 3).map(lambda d: (d,)),
        "groups": st.just(2),
        "weight": st.integers(1, 4).map(
            lambda k: nn.Parameter(torch.ones(2, 2 // layer.groups, k).double())
        ),
        "in_channels": st.just(7),
        "kernel_size": st.just((9,)),
    }
    for name in data.draw(st.lists(st.sampled_from(sorted(edits)), max_size=3)):
        setattr(layer, name, data.draw(edits[name]))
    channels = layer.weight.shape[1] * layer.groups
    try:
        truth = norm(layer, (channels, data.draw(st.integers(1, 9))))
    except (RuntimeError, ValueError, UserWarning):  # torch refuses the settings
        return
    assert truth <= deq.lipschitz(layer).value


def test_lipschitz_of_a_convolution_keeps_the_padding_that_torch_keeps() -> None:
    layer = nn.Conv1d(1, 1, 2, padding=4, padding_mode="circular", bias=False)
    before = deq.lipschitz(layer)
    layer.padding = (0,)
    assert deq.lipschitz(layer) == before
    layer = nn.Conv1d(1, 1, 2, padding="same", padding_mode="replicate", bias=False)
    layer._reversed_padding_repeated_twice = [-1, 1]
    with pytest.raises(UncertifiableModuleError, match="padding must be at least 0"):
        deq.lipschitz(layer)
