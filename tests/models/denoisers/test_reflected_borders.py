from __future__ import annotations

import torch

from deepinv_equilibrium.models.denoisers.reflected_borders import (
    extend_by_reflection,
    extend_levels,
    fold_by_reflection,
)

from ...one_test import in_one_test


@in_one_test("pixels", [0, 1, 2, 3, 8])
def test_extend_by_reflection_repeats_the_edges(pixels: int):
    x = torch.arange(3.0).reshape(1, 1, 1, 3)
    row = ([0.0, 1, 2, 2, 1, 0] * 9)[24 - pixels : 24 + 3 + pixels]
    extended = extend_by_reflection(x, pixels)
    assert extended.shape == (1, 1, 1 + 2 * pixels, 3 + 2 * pixels)
    assert extended[0, 0].tolist() == [row] * (1 + 2 * pixels)


@in_one_test("shape", [(2, 1, 4, 7), (1, 2, 1, 3), (1, 1, 2, 3, 5)])
@in_one_test("pixels", [1, 2, 6])
def test_fold_is_the_adjoint_of_the_extension(shape: tuple[int, ...], pixels: int):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    extended = extend_by_reflection(x, pixels)
    r = torch.randn_like(extended)
    pull = fold_by_reflection(r, pixels)
    torch.testing.assert_close((extended * r).sum(), (x * pull).sum())


def test_one_level_for_each_image_is_not_extended():
    levels = torch.rand(2, 1, 1, 1)
    assert extend_levels(levels, 5) is levels
    assert extend_levels(torch.rand(2, 1, 3, 4), 5).shape == (2, 1, 7, 8)
