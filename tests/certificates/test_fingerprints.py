from __future__ import annotations

from collections.abc import Callable

import deepinv as dinv
import numpy as np
import pytest
import torch
from torch import nn

from deepinv_equilibrium.certificates.fingerprints import changed_names, fingerprint

from ..one_test import in_one_test


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.plain = torch.ones(3)
        self.slope = 0.5
        self.mode = "circular"
        self.residual = True
        self.sizes = {"kernel": [3, 5]}
        self.pool = nn.AvgPool2d(3)
        self.parts = [nn.Linear(2, 2)]
        self.array = np.ones(2)
        self._transform = torch.sin
        self.calls = 0


def scale_weights(module: Module) -> None:
    with torch.no_grad():
        module.layer.weight *= 1 + 1e-6


CHANGES: dict[str, Callable[[Module], object]] = {
    "layer.weight": scale_weights,
    "norm.running_mean": lambda m: m.norm.running_mean.add_(1),
    "plain": lambda m: m.plain.add_(1),
    "slope": lambda m: setattr(m, "slope", 0.25),
    "mode": lambda m: setattr(m, "mode", "zeros"),
    "residual": lambda m: setattr(m, "residual", False),
    "sizes.kernel.1": lambda m: m.sizes["kernel"].__setitem__(1, 7),
    "layer.stride.0": lambda m: setattr(m.layer, "stride", (2, 1)),
    "pool.stride": lambda m: setattr(m.pool, "stride", 1),
    "parts.0.weight": lambda m: m.parts[0].weight.data.mul_(2),
    "array": lambda m: m.array.__imul__(2),
    "_transform": lambda m: setattr(m, "_transform", torch.cos),
    "pool.forward": lambda m: setattr(m.pool, "forward", lambda x: 2 * x),
    "norm.training": lambda m: m.eval(),
    "calls": lambda m: setattr(m, "calls", 7),
}


@in_one_test("name", CHANGES)
def test_fingerprint_names_a_change(name: str) -> None:
    module = Module()
    before = fingerprint(module)
    CHANGES[name](module)
    assert changed_names(before, fingerprint(module)) == [name]


def test_fingerprint_names_a_hook() -> None:
    module = Module()
    before = fingerprint(module)
    handle = module.layer.register_forward_hook(lambda *_: torch.zeros(1))
    (changed,) = changed_names(before, fingerprint(module))
    assert changed.startswith("layer._forward_hooks.")
    handle.remove()
    assert changed_names(before, fingerprint(module)) == []


def test_fingerprint_names_a_replaced_module() -> None:
    module = Module()
    before = fingerprint(module)
    module.norm = nn.Identity()
    assert "norm" in changed_names(before, fingerprint(module))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.layer.eval(),
        lambda m: m.double(),
        lambda m: m.compile(),
        lambda m: [p.requires_grad_(False) for p in m.parameters()],
        lambda m: m.layer(torch.zeros(1, 1, 4, 4)).sum().backward(),
    ],
)
def test_fingerprint_ignores_changes_that_keep_the_map(
    change: Callable[[Module], object],
) -> None:
    module = Module()
    module.plain = module.plain.double()  # .double() does not convert plain attributes
    before = fingerprint(module)
    change(module)
    assert changed_names(before, fingerprint(module)) == []


def test_fingerprint_covers_the_operator_and_not_its_noise() -> None:
    physics = dinv.physics.BlurFFT(
        (1, 8, 8),
        filter=torch.rand(1, 1, 3, 3),
        noise_model=dinv.physics.GaussianNoise(0.1),
    )
    before = fingerprint(physics)
    physics.noise_model.update_parameters(sigma=0.5)
    assert changed_names(before, fingerprint(physics)) == []
    physics.update_parameters(filter=torch.rand(1, 1, 3, 3))
    changed = changed_names(before, fingerprint(physics))
    assert "filter" in changed
    assert "mask" in changed


def test_fingerprint_covers_parts_of_a_stack_and_integers_of_deepinv() -> None:
    blur = dinv.physics.Blur(filter=torch.rand(1, 1, 3, 3))
    smaller = dinv.physics.Downsampling((1, 8, 8), filter="gaussian", factor=2)
    physics = dinv.physics.StackedLinearPhysics([blur, smaller])
    before = fingerprint(physics)
    smaller.factor = 4
    assert changed_names(before, fingerprint(physics)) == ["physics_list.1.factor"]
    smaller.factor = 2
    blur.update_parameters(filter=torch.rand(1, 1, 3, 3))
    assert changed_names(before, fingerprint(physics)) == ["physics_list.0.filter"]
