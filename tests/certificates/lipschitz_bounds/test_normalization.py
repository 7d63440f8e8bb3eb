from __future__ import annotations

import pytest
import torch
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import UncertifiableModuleError

from ..dense_operator import norm


@pytest.mark.parametrize("affine", [True, False])
def test_batch_normalisation_in_eval(affine: bool) -> None:
    layer = nn.BatchNorm2d(3, affine=affine).double()
    assert layer.running_var is not None
    layer.running_var.copy_(torch.tensor([0.1, 4.0, 0.0]))
    if affine:
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([-5.0, 1.0, 1e-3]))
    layer.eval()
    assert deq.lipschitz(layer).value == pytest.approx(norm(layer, (3, 2, 2)), 1e-11)
    assert deq.lipschitz(layer).value >= norm(layer, (3, 2, 2)) * (1 - 1e-15)


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        (nn.BatchNorm1d(3), "eval"),
        (nn.BatchNorm3d(3, track_running_stats=False).eval(), "track_running_stats"),
        (nn.InstanceNorm2d(3).eval(), "no rule"),
        (nn.GroupNorm(1, 3), "no rule"),
    ],
)
def test_statistics_of_the_input_are_refused(layer: nn.Module, match: str) -> None:
    with pytest.raises(UncertifiableModuleError, match=match):
        deq.lipschitz(layer)


def test_a_negative_running_variance_is_refused() -> None:
    layer = nn.BatchNorm2d(1).eval()
    assert layer.running_var is not None
    layer.running_var.fill_(-1)
    with pytest.raises(UncertifiableModuleError, match="not positive"):
        deq.lipschitz(layer)
