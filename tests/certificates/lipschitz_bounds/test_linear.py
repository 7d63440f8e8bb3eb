from __future__ import annotations

import pytest
import torch
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import UncertifiableModuleError


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
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
