from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import (
    Bound,
    UncertifiableModuleError,
    register_lipschitz_rule,
)

from ...one_test import in_one_test


class Plain(nn.Conv2d):
    """A subclass with another constructor that computes the same map."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)


class Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class DoubledInside(nn.Conv2d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, 2 * weight, bias)


class DoubledCall(nn.ReLU):
    def __call__(self, x: Tensor) -> Tensor:
        return 2 * super().__call__(x)


class Mixin:
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class Mixed(Mixin, nn.ReLU): ...


class Skip(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Declared(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x

    def lipschitz_bound(self, img_size: tuple[int, ...] | None) -> Bound:
        return Bound(2.0, source=f"declared for {img_size}")


class DeclaredAbove(Declared):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * x


class DeclaredAndKept(Declared):
    pass


def test_subclass_that_overrides_no_method_inherits_the_rule() -> None:
    layer = Plain(2)
    same = nn.Conv2d(2, 2, 3, padding=1)
    same.load_state_dict(layer.state_dict())
    assert deq.lipschitz(layer) == deq.lipschitz(same)
    nn.utils.parametrizations.weight_norm(layer)
    assert deq.lipschitz(layer).value == pytest.approx(deq.lipschitz(same).value)


@in_one_test(
    "module",
    [
        Doubled(1, 1, 3),
        DoubledInside(1, 1, 3),
        DoubledCall(),
        Mixed(),
        Skip(),
        DeclaredAbove(),
        nn.ModuleList([nn.ReLU()]),
        nn.LSTM(2, 2),
    ],
    ids=lambda module: type(module).__name__,
)
def test_subclass_that_overrides_a_method_is_refused(module: nn.Module) -> None:
    with pytest.raises(UncertifiableModuleError, match=type(module).__name__) as caught:
        deq.lipschitz(module)
    assert "register_lipschitz_rule" in str(caught.value)


def test_message_names_the_class_that_has_to_declare_its_bound() -> None:
    message = "DeclaredAbove inherits lipschitz_bound.*define .* in DeclaredAbove"
    with pytest.raises(UncertifiableModuleError, match=message):
        deq.lipschitz(DeclaredAbove())


@pytest.mark.parametrize("module", [Declared(), DeclaredAndKept()])
def test_module_can_declare_its_bound(module: nn.Module) -> None:
    assert deq.lipschitz(module, (1, 4, 4)) == Bound(
        2.0, source="declared for (1, 4, 4)"
    )


def test_user_can_register_a_rule_for_a_type() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return 3 * self.inner(x)

    module = nn.Sequential(Scaled())
    with pytest.raises(UncertifiableModuleError, match="'0', a Scaled"):
        deq.lipschitz(module)

    @register_lipschitz_rule(Scaled)
    def rule(module: Scaled, img_size: tuple[int, ...] | None) -> Bound:
        return Bound(3 * deq.lipschitz(module.inner, img_size).value, source="user")

    assert deq.lipschitz(module).value == pytest.approx(3)
    module[0].inner = nn.Dropout()
    with pytest.raises(UncertifiableModuleError, match=r"'0\.inner', a Dropout"):
        deq.lipschitz(module)


@pytest.mark.parametrize("types", [("ReLU",), (torch.Tensor,), (nn.ReLU(),)])
def test_register_lipschitz_rule_raises_for_other_types_than_modules(
    types: tuple[object, ...],
) -> None:
    with pytest.raises(TypeError, match="types of modules"):
        register_lipschitz_rule(*types)
