from __future__ import annotations

import math

import torch
from torch import nn

from deepinv_equilibrium.models.tomography.small_networks import (
    glorot,
    three_convolutions,
)


def test_three_convolutions_keep_the_image_size() -> None:
    network = three_convolutions(3, 2, 5, nn.ReLU)
    assert network(torch.rand(4, 3, 6, 7)).shape == (4, 2, 6, 7)
    assert sum(p.numel() for p in network.parameters()) == (
        9 * (3 * 5 + 5 * 5 + 5 * 2) + 5 + 5 + 2
    )


def test_glorot_draws_uniform_weights_within_its_bound_and_sets_biases_to_zero() -> (
    None
):
    layer = glorot(nn.Conv2d(20, 30, 3))
    bound = math.sqrt(6 / (9 * (20 + 30)))
    assert 0.95 * bound < layer.weight.abs().max() <= bound
    assert layer.bias is not None
    assert not layer.bias.any()
    assert glorot(nn.Conv2d(2, 2, 3, bias=False)).bias is None


def test_last_of_three_convolutions_has_a_tenth_of_the_weights() -> None:
    network = three_convolutions(20, 30, 40, nn.PReLU)
    bounds = [math.sqrt(6 / (9 * sum(n))) for n in ((20, 40), (40, 40), (40, 30))]
    bounds[2] /= 10
    for layer, bound in zip(network[::2], bounds, strict=True):
        assert isinstance(layer, nn.Conv2d)
        assert 0.95 * bound < layer.weight.abs().max() <= bound
