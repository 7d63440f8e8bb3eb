from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.optim.priors.network_prior import value_and_gradient

WEIGHT = torch.tensor([2.0, -3.0], dtype=torch.float64)


def cubic(x: Tensor) -> Tensor:
    return (WEIGHT * x**3).sum(dim=1)


def test_value_and_gradient_of_a_cubic() -> None:
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=torch.float64)
    with torch.no_grad():
        value, gradient = value_and_gradient(cubic, x)
    assert value.tolist() == [-22.0, 3.25]
    torch.testing.assert_close(gradient, 3 * WEIGHT * x**2)
    assert not x.requires_grad  # deepinv's Potential.grad sets it to True
    assert not gradient.requires_grad


def test_gradient_is_differentiable_if_gradients_are_enabled() -> None:
    x = torch.rand(2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: value_and_gradient(cubic, x)[1], x)
    value, _ = value_and_gradient(cubic, x)
    assert not value.requires_grad


@pytest.mark.parametrize("enabled", [True, False])
def test_gradient_reaches_weights_of_an_image_without_gradient(enabled: bool) -> None:
    """The image itself requires no gradient."""
    weight = WEIGHT.clone().requires_grad_()
    x = torch.ones(1, 2, dtype=torch.float64)
    with torch.set_grad_enabled(enabled):
        _, gradient = value_and_gradient(lambda x: (weight * x**3).sum(dim=1), x)
    assert gradient.requires_grad == enabled
    if enabled:
        (reached,) = torch.autograd.grad(gradient.sum(), weight)
        torch.testing.assert_close(reached, torch.full_like(weight, 3.0))


def test_gradient_of_a_constant_is_zero() -> None:
    x = torch.ones(3, 2)
    value, gradient = value_and_gradient(lambda x: torch.full((len(x),), 2.0), x)
    assert value.tolist() == [2.0] * 3
    assert torch.equal(gradient, torch.zeros(3, 2))
