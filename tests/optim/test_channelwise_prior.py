"""A prior of grey images, applied to each channel."""

from __future__ import annotations

import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import UncertifiableModuleError


def test_channels_are_images_of_their_own() -> None:
    torch.manual_seed(0)
    grey = deq.models.RidgeRegulariser().double()
    prior = deq.optim.ChannelwisePrior(grey)
    x = torch.rand(3, 2, 9, 8, dtype=torch.float64)
    levels = torch.tensor([0.02, 0.1, 0.3]).double().reshape(3, 1, 1, 1)
    maps = levels * torch.rand(3, 1, 9, 8, dtype=torch.float64)
    for sigma in (0.1, levels, levels.flatten(), maps):
        own = [s if isinstance(s := sigma, float) else s[i : i + 1] for i in range(3)]
        energies = prior.fn(x, sigma)
        gradient = prior.grad(x, sigma)
        proximal = prior.prox(x, sigma, gamma=levels)
        for i in range(3):
            parts = [x[i : i + 1, c : c + 1] for c in range(2)]
            expected = sum(grey.fn(part, own[i]) for part in parts)
            torch.testing.assert_close(energies[i : i + 1], expected)
            for c, part in enumerate(parts):
                found = gradient[i : i + 1, c : c + 1]
                torch.testing.assert_close(found, grey.grad(part, own[i]))
                found = proximal[i : i + 1, c : c + 1]
                expected = grey.prox(part, own[i], gamma=levels[i : i + 1])
                torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_bounds_are_those_of_one_channel() -> None:
    grey = deq.models.RidgeRegulariser(weak_convexity=1.0)
    prior = deq.optim.ChannelwisePrior(grey)
    assert prior.gradient_bounds((4, 9, 8)) == grey.gradient_bounds((1, 9, 8))
    assert prior.rtol == grey.rtol


def test_constructor_and_bounds_refuse_what_declares_nothing() -> None:
    with pytest.raises(
        TypeError, match=r"prior must be a deepinv\.optim\.Prior, got int"
    ):
        deq.optim.ChannelwisePrior(3)  # type: ignore[arg-type]
    prior = deq.optim.ChannelwisePrior(deq.optim.NonNegativity())
    with pytest.raises(UncertifiableModuleError, match="not declared"):
        prior.gradient_bounds((2, 4, 4))


@pytest.mark.parametrize("weak_convexity", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_dense_hessians_of_random_weights_are_within_the_bounds(
    seed: int, weak_convexity: float
) -> None:
    torch.manual_seed(seed)
    grey = deq.models.RidgeRegulariser(
        pretrained=None, weak_convexity=weak_convexity, generators=2, kernel_size=3
    ).double()
    with torch.no_grad():
        for parameter in grey.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    prior = deq.optim.ChannelwisePrior(grey)
    ends = prior.gradient_bounds((2, 4, 3))
    x = 0.2 * torch.randn(1, 2, 4, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda z: prior.grad(z, 0.1), x)
    eigenvalues = torch.linalg.eigvalsh(jacobian.reshape(24, 24))
    assert ends.lower.value - 1e-12 <= float(eigenvalues[0])
    assert float(eigenvalues[-1]) <= ends.upper.value + 1e-12
