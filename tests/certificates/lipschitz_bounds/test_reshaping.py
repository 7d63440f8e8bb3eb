from __future__ import annotations

import pytest
from torch import nn

import deepinv_equilibrium as deq

from ..dense_operator import norm


@pytest.mark.parametrize(
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
def test_isometries(layer: nn.Module) -> None:
    assert norm(layer, (4, 2, 2)) == pytest.approx(1)
    assert deq.lipschitz(layer).value == 1
