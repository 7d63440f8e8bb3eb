from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Residual, UncertifiableModuleError

from ...one_test import in_one_test
from ..dense_operator import norm


@in_one_test(
    "layer",
    [
        nn.Identity(),
        nn.Flatten(),
        nn.Unflatten(1, (2, 2)),
        nn.PixelShuffle(2),
        nn.PixelUnshuffle(2),
        nn.ChannelShuffle(2),
    ],
    ids=repr,
)
def test_lipschitz_of_a_rearrangement_is_1(layer: nn.Module) -> None:
    assert norm(layer, (4, 2, 2)) == pytest.approx(1)
    assert deq.lipschitz(layer).value == 1


LAYERS = {
    "selu": lambda: nn.SELU(inplace=True),
    "silu": lambda: nn.SiLU(inplace=True),
    "leaky": lambda: nn.LeakyReLU(3.0, inplace=True),
    "relu": lambda: nn.ReLU(inplace=True),
    "identity": nn.Identity,
    "dropout": lambda: nn.Dropout(inplace=True).eval(),
    "views": lambda: nn.Sequential(nn.Flatten(), nn.Unflatten(1, (1, 3))),
    "conv": lambda: nn.Conv1d(1, 1, 3, padding=1),
}


@given(st.lists(st.sampled_from(sorted(LAYERS)), max_size=3), st.integers(0, 10**6))
def test_lipschitz_of_residuals_bounds_quotients_with_activations_in_place(
    names: list[str], seed: int
) -> None:
    torch.manual_seed(seed)
    block = nn.Sequential(*(LAYERS[name]() for name in names))
    network = Residual(nn.Sequential(Residual(block), nn.SELU(inplace=True))).double()
    x = torch.randn(32, 1, 3, dtype=torch.float64)
    y = x + 1e-3 * torch.randn_like(x)
    with torch.no_grad():
        moved = network(x.clone()) - network(y.clone())
    factors = moved.flatten(1).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
    assert factors.max() <= deq.lipschitz(network).value * (1 + 1e-10)


def test_residual_adds_its_input_to_a_block_that_overwrites_its_input() -> None:
    x = torch.randn(1, 1, 4)
    kept = x.clone()
    expected = x + nn.functional.selu(x)
    assert torch.equal(Residual(nn.SELU(inplace=True))(x), expected)
    assert torch.equal(x, kept)


def test_lipschitz_refuses_a_sequence_with_none() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU(), None))
    with pytest.raises(UncertifiableModuleError, match=r"'1', .* layer '1' is None"):
        deq.lipschitz(network)
