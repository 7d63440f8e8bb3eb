"""Copies of modules with random number generators."""

from __future__ import annotations

import deepinv as dinv
import torch

from deepinv_equilibrium.models.adaptation.adaptation_objective import (
    copy_module,
)


def test_copy_module_copies_the_state_of_generators() -> None:
    noise = dinv.physics.GaussianNoise(0.1, rng=torch.Generator().manual_seed(3))
    physics = dinv.physics.Inpainting((1, 4, 4), mask=torch.ones(4, 4))
    physics.noise_model = noise
    x = torch.zeros(1, 1, 4, 4)
    physics(x)
    copied = copy_module(physics)
    drawn = copied(x)
    assert torch.equal(physics(x), drawn)
    copied.mask.zero_()
    assert bool(physics.mask.all())
    assert copied.noise_model.rng is not noise.rng
