from __future__ import annotations

from collections.abc import Callable

import deepinv as dinv
import pytest
import torch
from torch import nn

from deepinv_equilibrium.certificates.fingerprint import differences, fingerprint


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
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named(name: str) -> None:
    module = Module()
    before = fingerprint(module)
    CHANGES[name](module)
    assert differences(before, fingerprint(module)) == [name]


def test_another_module_in_the_same_place_is_named() -> None:
    module = Module()
    before = fingerprint(module)
    module.norm = nn.Identity()
    assert "norm" in differences(before, fingerprint(module))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.eval(),
        lambda m: m.double(),
        lambda m: setattr(m, "calls", 7),
        lambda m: [p.requires_grad_(False) for p in m.parameters()],
        lambda m: m.layer(torch.zeros(1, 1, 4, 4)).sum().backward(),
    ],
)
def test_what_leaves_the_map_as_it_is_changes_nothing(
    change: Callable[[Module], object],
) -> None:
    module = Module()
    module.plain = module.plain.double()  # plain attributes do not follow .double()
    before = fingerprint(module)
    change(module)
    assert differences(before, fingerprint(module)) == []


def test_the_operator_counts_and_its_noise_does_not() -> None:
    physics = dinv.physics.BlurFFT(
        (1, 8, 8),
        filter=torch.rand(1, 1, 3, 3),
        noise_model=dinv.physics.GaussianNoise(0.1),
    )
    before = fingerprint(physics)
    physics.noise_model.update_parameters(sigma=0.5)
    assert differences(before, fingerprint(physics)) == []
    physics.update_parameters(filter=torch.rand(1, 1, 3, 3))
    changed = differences(before, fingerprint(physics))
    assert "filter" in changed
    assert "mask" in changed
