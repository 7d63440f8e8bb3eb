from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound, UncertifiableModuleError

from ...one_test import in_one_test


class Declared(nn.Module):
    """A module with a declared bound, which contains a layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)

    def lipschitz_bound(self, img_size: tuple[int, ...] | None) -> Bound:
        return Bound(1.0, source="declared")


def with_entry(layer: nn.Module, name: str, value: float) -> nn.Module:
    with torch.no_grad():
        getattr(layer, name).view(-1)[0] = value
    return layer


@in_one_test("value", [math.nan, math.inf])
@in_one_test(
    ("layer", "name"),
    [
        (lambda: nn.Conv2d(1, 2, 3), "weight"),
        (lambda: nn.Conv2d(1, 2, 3), "bias"),
        (lambda: nn.Linear(2, 2), "bias"),
        (lambda: nn.PReLU(), "weight"),
        (lambda: nn.BatchNorm2d(2).eval(), "running_mean"),
        (lambda: nn.BatchNorm2d(2).eval(), "running_var"),
    ],
)
def test_lipschitz_refuses_values_that_are_not_finite(
    layer: Callable[[], nn.Module], name: str, value: float
) -> None:
    network = nn.Sequential(with_entry(layer(), name, value))
    with pytest.raises(UncertifiableModuleError, match=rf"'0', .* its {name} holds"):
        deq.lipschitz(network)
    with pytest.raises(UncertifiableModuleError, match=f"its {name} holds"):
        deq.lipschitz(Declared(network))


@in_one_test(
    "layer",
    [
        nn.LeakyReLU(math.nan),
        nn.LeakyReLU(math.inf),
        nn.ELU(math.nan),
        nn.CELU(math.nan),
        nn.Softplus(math.nan),
        nn.RReLU(0.1, math.nan).eval(),
        nn.Hardtanh(-1.0, math.inf).eval(),
        nn.ConstantPad1d(1, math.nan),
        nn.BatchNorm1d(2, eps=math.nan).eval(),
        nn.Upsample(scale_factor=math.nan),
    ],
    ids=repr,
)
def test_lipschitz_refuses_settings_that_are_not_finite(layer: nn.Module) -> None:
    if isinstance(layer, nn.Hardtanh):  # its limits may be infinite
        assert deq.lipschitz(layer).value == 1
        layer.max_val = math.nan
    with pytest.raises(UncertifiableModuleError, match=r"is (nan|inf)"):
        deq.lipschitz(nn.Sequential(layer))


@in_one_test(
    "layer", [nn.Tanh(), nn.Sigmoid(), nn.SiLU(), nn.Softsign(), nn.MaxPool1d(2)]
)
def test_lipschitz_refuses_complex_weights_with_layers_for_real_images(
    layer: nn.Module,
) -> None:
    linear = nn.Conv1d(1, 1, 1, dtype=torch.complex128)
    assert deq.lipschitz(nn.Sequential(linear), (1, 4)).is_certified
    with pytest.raises(UncertifiableModuleError, match=r"'1', .* real images only"):
        deq.lipschitz(nn.Sequential(linear, layer))


def test_lipschitz_refuses_weights_without_values() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Conv2d(1, 1, 3, device="meta"))
    with pytest.raises(UncertifiableModuleError, match=r"'1', .* has no values yet"):
        deq.lipschitz(network)


@in_one_test(
    "layer", [nn.RReLU(), nn.Dropout2d(), nn.AlphaDropout(), nn.BatchNorm2d(1)]
)
def test_lipschitz_refuses_a_declared_module_with_a_layer_in_train_mode(
    layer: nn.Module,
) -> None:
    module = Declared(nn.Sequential(nn.ReLU(), layer))
    with pytest.raises(UncertifiableModuleError, match=r"'layer\.1', .* eval\(\)"):
        deq.lipschitz(module)
    assert deq.lipschitz(module.eval()).value == 1
