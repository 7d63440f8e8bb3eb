"""Soft thresholding, and thresholds that are learned as logarithms."""

from __future__ import annotations

import math

import pytest
import torch

from deepinv_equilibrium.models.sparse_coding.ista_step import (
    log_thresholds,
    per_layer,
    soft_threshold,
)

from ...one_test import in_one_test
from .problems import DOUBLE


def test_soft_threshold_applies_a_threshold_to_each_atom() -> None:
    z = torch.tensor([[[3.0, -0.5]], [[-3.0, 0.5]]]).expand(2, 2, 2)
    expected = torch.tensor([[[2.0, 0.0], [3.0, -0.5]], [[-2.0, 0.0], [-3.0, 0.5]]])
    assert torch.equal(soft_threshold(z, torch.tensor([1.0, 0.0])), expected)


def test_gradients_of_soft_threshold_agree_with_finite_differences() -> None:
    z = torch.randn(2, 3, 4, dtype=DOUBLE, requires_grad=True)
    threshold = torch.tensor([0.1, 0.5, 0.0], dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(soft_threshold, (z, threshold.clamp_min(1e-3)))


def test_training_keeps_a_threshold_of_zero() -> None:
    """Its gradient is 0 and not NaN."""
    raw = torch.nn.Parameter(log_thresholds("weight", [0.5, 0.0], 2))
    optimizer = torch.optim.Adam([raw], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        soft_threshold(torch.ones(4, 2), raw.exp()).square().sum().backward()
        optimizer.step()
    assert raw[0] > math.log(0.5)
    assert raw.exp()[1] == 0


def test_per_layer_returns_independent_copies() -> None:
    layers = per_layer(log_thresholds("weight", 0.5, 2), 3)
    torch.testing.assert_close(layers.exp(), torch.full((3, 2), 0.5))
    layers[0].sum().backward()
    assert torch.equal(layers.grad, torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))


@in_one_test("bad", [-1.0, math.nan, math.inf, [0.1, -0.1]])
def test_log_thresholds_raises_for_values_that_are_not_thresholds(bad: float) -> None:
    with pytest.raises(ValueError, match="weight must be nonnegative and finite"):
        log_thresholds("weight", bad, 2)


def test_log_thresholds_raises_for_a_wrong_number_of_values() -> None:
    with pytest.raises(ValueError, match="one for each of the 2 atoms, got 3"):
        log_thresholds("weight", [1.0, 1.0, 1.0], 2)
