from __future__ import annotations

import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.physics import birdcage_coil_maps, dynamic_mri

from ..one_test import in_one_test


def test_every_frame_samples_the_centre_and_its_own_columns() -> None:
    mask = dynamic_mri((2, 12, 40, 64)).mask
    assert mask.shape == (1, 2, 12, 40, 64)
    columns = mask[0, 0, :, 0]
    assert torch.equal(mask, columns[None, None, :, None].expand_as(mask))
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert (columns.sum(-1) == 64 // 6).all()
    assert (columns[:, 30:35] == 1).all()  # 8 % of the columns
    assert len({tuple(row.tolist()) for row in columns}) == 12


def test_physics_has_birdcage_maps_and_seeded_mask_and_noise() -> None:
    size = (2, 3, 16, 24)
    physics = dynamic_mri(size, coils=4, acceleration=4, sigma=0.2, seed=5)
    assert torch.equal(physics.coil_maps[0, :, 0], birdcage_coil_maps(4, (16, 24)))
    x = torch.zeros(8, *size)
    y = physics(x)
    sampled = physics.mask[:, :, None].expand_as(y) == 1
    assert float(y[sampled].std()) == pytest.approx(0.2, rel=0.02)
    assert (y[~sampled] == 0).all()
    again = dynamic_mri(size, coils=4, acceleration=4, sigma=0.2, seed=5)
    assert torch.equal(again(x), y)
    other = dynamic_mri(size, coils=4, acceleration=4, sigma=0.2, seed=6)
    assert not torch.equal(other.mask, physics.mask)


def test_global_generator_is_not_used() -> None:
    state = torch.get_rng_state()
    dynamic_mri()(torch.zeros(1, 2, 12, 64, 64))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("acceleration", [1, 6])
def test_norm_is_certified_to_be_one(acceleration: int) -> None:
    physics = dynamic_mri(acceleration=acceleration)
    interval = deq.spectrum(physics, (2, 12, 64, 64))
    assert interval.kind is deq.certificates.Kind.CERTIFIED
    assert interval.upper.value == pytest.approx(1, rel=1e-6)
    expected = 1 if acceleration == 1 else 0
    assert interval.lower.value == pytest.approx(expected, abs=1e-6)


@in_one_test(
    ("arguments", "message"),
    [
        ({"img_size": (12, 64, 64)}, r"\(2, T, H, W\), got \(12, 64, 64\)"),
        ({"img_size": (1, 12, 64, 64)}, r"got \(1, 12, 64, 64\)"),
        ({"acceleration": 65}, "number of columns, 64, got 65"),
        ({"acceleration": 0}, "acceleration must be .* got 0"),
        ({"sigma": -1.0}, "sigma must be finite and nonnegative, got -1.0"),
        ({"coils": 0}, "coils=0"),
    ],
)
def test_bad_arguments_are_named(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        dynamic_mri(**arguments)
