from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.models import LearnedGradientDescent
from deepinv_equilibrium.models.tomography.fbp_unet import filtered_back_projection
from deepinv_equilibrium.optim.total_variation import differences, differences_adjoint

from ..images import random_images
from .test_learned_iterations import SIZE, scan


def gradient_descent(
    tau: float, weight: float, **arguments: bool
) -> LearnedGradientDescent:
    """Return a model whose network computes -tau times the sum of the gradients, and a
    memory of 0."""
    model = LearnedGradientDescent(iterations=3, filters=4, **arguments).double()
    first, second, third = model.layers[0][0], model.layers[0][2], model.layers[0][4]
    with torch.no_grad():
        for layer in (first, second, third):
            layer.weight.zero_()
            layer.bias.zero_()
        # One filter for the positive part and one for the negative part, because a
        # ReLU sets negative values to 0.
        for filter_, sign in ((0, 1.0), (1, -1.0)):
            first.weight[filter_, 1, 1, 1] = sign
            first.weight[filter_, 2, 1, 1] = sign * weight
            second.weight[filter_, filter_, 1, 1] = 1.0
            third.weight[0, filter_, 1, 1] = -tau * sign
    return model


def by_hand(y: Tensor, tau: float, weight: float, positivity: bool) -> Tensor:
    physics = scan()
    bound = LearnedGradientDescent().double().normalise(y, physics).norm ** 2
    x = filtered_back_projection(y, physics)
    for _ in range(3):
        gradient = physics.A_adjoint(physics.A(x) - y) / bound
        x = x - tau * (gradient + weight * differences_adjoint(differences(x)))
        x = x.clamp(min=0) if positivity else x
    return x


def test_default_model_has_the_published_number_of_parameters() -> None:
    parameters = sum(p.numel() for p in LearnedGradientDescent().parameters())
    assert parameters == 13_318
    untied = LearnedGradientDescent(tied=False)
    assert sum(p.numel() for p in untied.parameters()) == 133_180


@pytest.mark.parametrize("positivity", [False, True])
def test_linear_network_computes_gradient_descent(positivity: bool) -> None:
    y = scan().A(random_images(0, (2, 1, SIZE, SIZE)) - 0.3)
    model = gradient_descent(0.8, 0.05, positivity=positivity)
    with torch.no_grad():
        x = model(y, scan())
    torch.testing.assert_close(x, by_hand(y, 0.8, 0.05, positivity))
    assert (x.min() >= 0) == positivity


def test_iterate_returns_the_positive_part_of_the_memory() -> None:
    model = LearnedGradientDescent(memory=2, filters=4).double()
    with torch.no_grad():
        model.layers[0][4].weight.zero_()
        model.layers[0][4].bias.copy_(torch.tensor([0.5, 2.0, -3.0]))
    y = scan().A(random_images(1, (1, 1, SIZE, SIZE)))
    normalised = model.normalise(y, scan())
    start = model.start(normalised)
    assert start[1].shape == (1, 2, SIZE, SIZE)
    assert not start[1].any()
    x, memory = model.iterate(model.layers[0], start, normalised)
    torch.testing.assert_close(x, start[0] + 0.5)
    assert memory[0, 0].unique().tolist() == [2.0]
    assert memory[0, 1].unique().tolist() == [0.0]


def test_memory_can_be_zero_but_not_negative() -> None:
    model = LearnedGradientDescent(iterations=2, memory=0, filters=4).double()
    y = scan().A(random_images(2, (1, 1, SIZE, SIZE)))
    assert model(y, scan()).shape == (1, 1, SIZE, SIZE)
    with pytest.raises(ValueError, match="memory must be an integer >= 0, got -1"):
        LearnedGradientDescent(memory=-1)
