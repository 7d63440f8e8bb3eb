"""Bounds of layers whose settings were edited after construction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import UncertifiableModuleError

INTEGERS = st.integers(0, 4)
NUMBERS = st.sampled_from([-3.0, -0.5, 0.0, 0.3, 1.0, 2.5, 50.0, None])
FLAGS = st.booleans()


def parameters(*sizes: int) -> st.SearchStrategy[nn.Parameter]:
    return st.sampled_from(sizes).map(
        lambda n: nn.Parameter(torch.linspace(-3, 2, n, dtype=torch.float64))
    )


def pooling(layer: Callable[..., nn.Module]) -> tuple[Any, dict[str, Any]]:
    sizes = dict.fromkeys(("kernel_size", "stride", "dilation"), st.integers(0, 3))
    flags = dict.fromkeys(("ceil_mode", "count_include_pad"), FLAGS)
    powers = {"norm_type": st.sampled_from([1, 2, 2.5, 4.0, -2, float("inf")])}
    return lambda: layer(2), {**sizes, **flags, **powers, "padding": st.integers(0, 2)}


EDITS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "transposed": (
        lambda: nn.ConvTranspose1d(2, 2, 3),
        {
            "stride": st.integers(1, 3).map(lambda s: (s,)),
            "padding": INTEGERS.map(lambda p: (p,)),
            "output_padding": INTEGERS.map(lambda p: (p,)),
            "dilation": st.integers(1, 3).map(lambda d: (d,)),
            "padding_mode": st.sampled_from(["zeros", "circular"]),
            "weight": st.integers(1, 4).map(
                lambda k: nn.Parameter(torch.ones(2, 2, k, dtype=torch.float64))
            ),
        },
    ),
    "batch norm": (
        lambda: nn.BatchNorm1d(2).eval(),
        {
            "affine": FLAGS,
            "track_running_stats": FLAGS,
            "training": FLAGS,
            "eps": st.sampled_from([1e-5, 1.0, -0.5]),
            "weight": st.one_of(st.none(), parameters(2)),
            "running_mean": st.one_of(st.none(), parameters(2).map(torch.detach)),
            "running_var": st.sampled_from([None, torch.tensor([0.1, 9.0]).double()]),
        },
    ),
    "average": pooling(nn.AvgPool1d),
    "maximum": pooling(nn.MaxPool1d),
    "power": pooling(lambda kernel: nn.LPPool1d(2, kernel)),
    "adaptive": (
        lambda: nn.AdaptiveAvgPool1d(2),
        {"output_size": st.one_of(INTEGERS, INTEGERS.map(lambda n: [n]), st.none())},
    ),
    "upsample": (
        lambda: nn.Upsample(scale_factor=2),
        {
            "scale_factor": st.sampled_from([2, 3.0, (2,), [1.5], (2, 2), None]),
            "size": st.one_of(st.none(), INTEGERS, INTEGERS.map(lambda n: [n])),
            "mode": st.sampled_from(["nearest", "nearest-exact", "linear", "bicubic"]),
            "align_corners": st.sampled_from([None, True, False]),
        },
    ),
    "replicate": (
        lambda: nn.ReplicationPad1d(1),
        {"padding": st.one_of(INTEGERS, st.tuples(st.integers(-1, 4), INTEGERS))},
    ),
    "constant": (
        lambda: nn.ConstantPad1d(1, 0.5),
        {"padding": st.tuples(st.integers(-1, 2), INTEGERS), "value": NUMBERS},
    ),
    "leaky": (lambda: nn.LeakyReLU(), {"negative_slope": NUMBERS}),
    "prelu": (lambda: nn.PReLU(), {"weight": parameters(1, 2)}),
    "rrelu": (
        lambda: nn.RReLU().eval(),
        {"lower": NUMBERS, "upper": NUMBERS, "training": FLAGS},
    ),
    "elu": (lambda: nn.ELU(), {"alpha": NUMBERS}),
    "celu": (lambda: nn.CELU(), {"alpha": NUMBERS}),
    "hardtanh": (lambda: nn.Hardtanh(), {"min_val": NUMBERS, "max_val": NUMBERS}),
    "relu6": (lambda: nn.ReLU6(), {"min_val": NUMBERS, "max_val": NUMBERS}),
    "softshrink": (lambda: nn.Softshrink(), {"lambd": NUMBERS}),
    "softplus": (
        lambda: nn.Softplus(threshold=40.0),
        {"beta": NUMBERS, "threshold": NUMBERS},
    ),
    "gelu": (lambda: nn.GELU(), {"approximate": st.sampled_from(["none", "tanh"])}),
    "softmax": (lambda: nn.Softmax(dim=1), {"dim": st.sampled_from([1, 2, -1])}),
    "dropout": (lambda: nn.Dropout(0.0), {"p": st.sampled_from([0.0, 0.5, 1.0])}),
}


@pytest.mark.parametrize("name", EDITS)
@settings(max_examples=15)
@given(data=st.data())
def test_lipschitz_bounds_quotients_of_a_layer_edited_after_construction(
    name: str, data: st.DataObject
) -> None:
    build, edits = EDITS[name]
    layer = build().double()
    for edit in data.draw(st.lists(st.sampled_from(sorted(edits)), max_size=3)):
        setattr(layer, edit, data.draw(edits[edit]))
    try:
        bound = deq.lipschitz(layer)
    except UncertifiableModuleError:
        return
    n = data.draw(st.integers(1, 6))
    x = 3 * torch.randn(40, 2, n, dtype=torch.float64)
    y = x + torch.randn_like(x) * data.draw(st.sampled_from([1e-4, 1.0]))
    y[::2] = x[::2] + 1e-3 * torch.eye(2 * n, dtype=x.dtype).reshape(-1, 2, n)[0]
    try:
        with torch.no_grad():
            moved = (layer(x) - layer(y)).flatten(1).norm(dim=1)
    except (RuntimeError, TypeError, ValueError, IndexError, OverflowError):
        return  # torch refuses the settings
    factors = moved / (x - y).flatten(1).norm(dim=1)
    assert factors.max() <= bound.value * (1 + 1e-9)
