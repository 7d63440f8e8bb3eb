"""Copies of a physics that keep its current parameters."""

from __future__ import annotations

import deepinv as dinv
import torch
from torch import nn

from deepinv_equilibrium.certificates.spectra.parameter_snapshot import (
    parameter_snapshot,
)

ONES = torch.ones(1, 1, 2, 2)


def physics_with(mask: torch.Tensor) -> dinv.physics.StackedLinearPhysics:
    """Return a stack of a mask and of a composition of two masks."""
    first = dinv.physics.Inpainting((1, 2, 2), mask=mask)
    second = dinv.physics.Inpainting((1, 2, 2), mask=mask)
    product = dinv.physics.ComposedLinearPhysics(first, second)
    return dinv.physics.StackedLinearPhysics([first, product])


def test_snapshot_keeps_the_parameters_before_an_update() -> None:
    physics = physics_with(ONES)
    snapshot = parameter_snapshot(physics)
    physics.update(mask=3 * ONES)
    assert [float(part.sum()) for part in physics.A(ONES)] == [12.0, 36.0]
    assert [float(part.sum()) for part in snapshot.A(ONES)] == [4.0, 4.0]
    snapshot.update(mask=0 * ONES)
    assert [float(part.sum()) for part in physics.A(ONES)] == [12.0, 36.0]


def test_snapshot_shares_tensors_and_parts() -> None:
    physics = physics_with(ONES)
    physics.weight = nn.Parameter(torch.ones(()))
    snapshot = parameter_snapshot(physics)
    assert snapshot.weight is physics.weight
    first, product = snapshot.physics_list
    assert first is product.physics_list[0]
    assert first.mask is physics.physics_list[0].mask
