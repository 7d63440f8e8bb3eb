"""Priors from networks: closed forms and finite differences."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor, nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.optim import NetworkResidualPrior, ScalarNetworkPrior
from deepinv_equilibrium.optim.priors.network_prior import NetworkPrior

from ...one_test import in_one_test

F64 = torch.float64


class Smooth(dinv.models.Denoiser):
    """A small network with smooth activations that reads its noise level."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 4, 3, padding=1)
        self.last = nn.Conv2d(4, channels, 3, padding=1)

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return self.last(torch.sin(self.first(x) + sigma))


class Matrix(dinv.models.Denoiser):
    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        return (x.flatten(1) @ self.matrix.T).reshape_as(x)


def potential(channels: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 3, 3), nn.Softplus())


def priors(channels: int = 1) -> list[tuple[NetworkPrior, tuple[float, ...]]]:
    return [
        (NetworkResidualPrior(Smooth(channels)), (0.3,)),
        (ScalarNetworkPrior(potential(channels)), ()),
    ]


def test_residual_prior_of_a_linear_network_has_the_closed_form() -> None:
    """The Jacobian is not symmetric; RED omits its transpose."""
    matrix, x = torch.rand(4, 4, dtype=F64), torch.rand(2, 1, 2, 2, dtype=F64)
    prior = NetworkResidualPrior(Matrix(matrix))
    gap = torch.eye(4, dtype=F64) - matrix
    residual = x.flatten(1) @ gap.T
    torch.testing.assert_close(prior(x, 0.1), residual.square().sum(1) / 2)
    true = (residual @ gap).reshape_as(x)
    torch.testing.assert_close(prior.grad(x, 0.1), true)
    with torch.no_grad():
        red = dinv.optim.RED(prior.denoiser).grad(x, 0.1)
    assert float((red - true).abs().max()) > 0.1


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_agree_with_finite_differences(channels: int, index: int) -> None:
    """The value with respect to the image, the gradient to image and weights."""
    prior, arguments = priors(channels)[index]
    prior.double()
    x = torch.rand(2, channels, 4, 5, dtype=F64, requires_grad=True)
    weight = next(prior.parameters())
    assert torch.autograd.gradcheck(lambda x: prior(x, *arguments), x)
    (expected,) = torch.autograd.grad(prior(x, *arguments).sum(), x)
    torch.testing.assert_close(prior.grad(x, *arguments), expected)

    def gradient(x: Tensor, weight: Tensor) -> Tensor:
        return prior.grad(x, *arguments)

    assert torch.autograd.gradcheck(gradient, (x, weight), fast_mode=True)


@in_one_test("index", [0, 1])
@in_one_test("dtype", [torch.float32, F64])
def test_sample_does_not_depend_on_the_rest_of_the_batch(
    index: int, dtype: torch.dtype
) -> None:
    prior, arguments = priors()[index]
    prior.to(dtype)
    x = torch.rand(3, 1, 5, 4, dtype=dtype)
    with torch.no_grad():
        together, gradient = prior(x, *arguments), prior.grad(x, *arguments)
        for i in range(3):
            one = x[i : i + 1]
            torch.testing.assert_close(together[i : i + 1], prior(one, *arguments))
            alone = prior.grad(one, *arguments)
            torch.testing.assert_close(gradient[i : i + 1], alone)
    assert together.dtype is gradient.dtype is dtype
    assert not gradient.requires_grad
    assert not x.requires_grad


def test_gradient_agrees_with_the_gradient_step_denoiser_of_deepinv() -> None:
    """The gradient-step denoiser is I - grad g in float32."""
    network = Smooth().double()
    x = torch.rand(2, 1, 6, 5, dtype=F64)
    with torch.no_grad():
        ours = NetworkResidualPrior(network).grad(x, 0.2)
        single = dinv.models.GSPnP.GSPnP(copy.deepcopy(network).float())
        theirs = single.potential_grad(x.float(), 0.2)
    torch.testing.assert_close(ours.float(), theirs)


def test_scalar_prior_accepts_a_convex_network_of_deepinv() -> None:
    network = dinv.models.ICNN(1, num_filters=4, num_layers=2).double()
    prior = ScalarNetworkPrior(network)
    x, z = torch.rand(2, 3, 1, 8, 8, dtype=F64)
    assert bool((prior((x + z) / 2) <= (prior(x) + prior(z)) / 2).all())
    inner = (prior.grad(x) * (z - x)).flatten(1).sum(1)
    assert bool((prior(z) >= prior(x) + inner).all())


@pytest.mark.parametrize("index", [0, 1])
def test_state_dict_restores_the_prior(index: int, tmp_path: Path) -> None:
    prior, arguments = priors()[index]
    torch.save(prior.state_dict(), tmp_path / "prior.pt")
    other, _ = priors()[index]
    x = torch.rand(1, 1, 5, 5)
    assert not torch.equal(other(x, *arguments), prior(x, *arguments))
    other.load_state_dict(torch.load(tmp_path / "prior.pt", weights_only=True))
    assert torch.equal(other(x, *arguments), prior(x, *arguments))


def test_registry_creates_priors_and_constructors_refuse_other_types() -> None:
    create = deq.plugins.create
    prior = create("priors", "network-residual", denoiser=Smooth())
    assert isinstance(prior, NetworkResidualPrior)
    scalar = create("priors", "scalar-network", network=potential())
    assert isinstance(scalar, ScalarNetworkPrior)
    with pytest.raises(TypeError, match=r"denoiser must be an instance.*Sequential"):
        NetworkResidualPrior(potential())
    with pytest.raises(TypeError, match="got the name 'small-drunet'"):
        NetworkResidualPrior("small-drunet")
    with pytest.raises(TypeError, match=r"network must be a torch.nn.Module.*function"):
        ScalarNetworkPrior(lambda x: x)
    total = ScalarNetworkPrior(nn.Flatten(0))
    with pytest.raises(ValueError, match=r"batch first, of size 2, got shape \(50,\)"):
        total(torch.rand(2, 1, 5, 5))


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_prox_meets_its_optimality_condition(dtype: torch.dtype, index: int) -> None:
    prior, args = priors()[index]
    prior, x = prior.to(dtype), torch.rand(3, 1, 8, 8, dtype=dtype)
    gamma = torch.tensor([0.0, 0.1, 0.5], dtype=dtype)
    with torch.no_grad():
        z = prior.prox(x, *args, gamma=gamma)
    pull = gamma.reshape(-1, 1, 1, 1) * prior.grad(z, *args)
    gap = (z - x + pull).flatten(1).norm(dim=1)
    limit = 1e-9 if dtype is F64 else 1e-5
    assert bool((gap <= limit * x.flatten(1).norm(dim=1)).all())
    torch.testing.assert_close(z[0], x[0])
    for i in range(3):
        alone = prior.prox(x[i : i + 1], *args, gamma=gamma[i])
        torch.testing.assert_close(z[i], alone[0], rtol=0, atol=limit)


def test_prox_of_a_linear_residual_has_the_closed_form_and_its_gradient() -> None:
    matrix = (0.3 * torch.randn(4, 4, dtype=F64)).requires_grad_()
    x = torch.rand(2, 1, 2, 2, dtype=F64, requires_grad=True)
    gamma = torch.tensor([0.5, 2.0], dtype=F64, requires_grad=True)
    prior = NetworkResidualPrior(Matrix(matrix.detach()))
    z = prior.prox(x, 0.1, gamma=gamma)
    gap = torch.eye(4, dtype=F64) - matrix
    system = torch.eye(4, dtype=F64) + gamma[:, None, None] * (gap.mT @ gap)
    exact = torch.linalg.solve(system, x.flatten(1)).reshape_as(x)
    torch.testing.assert_close(z, exact, rtol=0, atol=1e-9)
    weight = torch.randn_like(z)
    found = torch.autograd.grad(
        (weight * z).sum(), (x, gamma, prior.denoiser.matrix), retain_graph=True
    )
    true = torch.autograd.grad((weight * exact).sum(), (x, gamma, matrix))
    for ours, theirs in zip(found, true, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-8)
