from __future__ import annotations

import pytest
import torch

from deepinv_equilibrium.certificates import convolution_norm
from deepinv_equilibrium.models.denoisers.convex_potential_layer import (
    ConvexPotentialLayer,
)
from deepinv_equilibrium.models.denoisers.oriented_filters import (
    orbit,
    random_generators,
)

DOUBLE = {"dtype": torch.float64}


def test_orbit_returns_the_eight_symmetries_of_the_square():
    (kernel,) = filters = torch.randn(1, 2, 3, 3, **DOUBLE)
    turned = [kernel.rot90(k, (-2, -1)) for k in range(4)]
    expected = {tuple(image.flatten().tolist()) for image in turned}
    expected |= {tuple(image.flip(-1).flatten().tolist()) for image in turned}
    found = [tuple(image.flatten().tolist()) for image in orbit(filters)]
    assert len(found) == len(set(found)) == 8
    assert set(found) == expected


def test_orbit_of_several_filters_is_sorted_by_orientation():
    filters = torch.randn(3, 1, 3, 3, **DOUBLE)
    bank = orbit(filters).unflatten(0, (8, 3))
    for i in range(3):
        assert torch.equal(bank[:, i], orbit(filters[i : i + 1]))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_filters_of_the_layer_have_mean_zero_and_norm_near_one(scale: float):
    layer = ConvexPotentialLayer(3, generators=2).double()
    layer.generators.data.mul_(scale)
    filters = layer.filters()
    assert filters.shape == (16, 3, 5, 5)
    assert filters.mean(dim=(-2, -1)).abs().max() < 1e-15
    assert convolution_norm(filters).item() == pytest.approx(1, rel=1e-9)


def test_filters_of_the_layer_are_zero_for_constant_generators():
    layer = ConvexPotentialLayer(1, generators=1, kernel_size=3)
    for value in (0.0, 1.0):
        layer.generators.data.fill_(value)
        assert not layer.filters().any()


def test_filters_of_the_layer_are_differentiable():
    layer = ConvexPotentialLayer(1, generators=1, kernel_size=3).double()
    layer.forward = layer.filters
    weight = layer.generators.detach().clone().requires_grad_()

    def filters(generators: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"generators": generators}, ())

    assert torch.autograd.gradcheck(filters, weight)
    # The layer's own weights have a bound whose gradient is cached.
    cotangent = torch.randn(8, 1, 3, 3, **DOUBLE)
    (cached,) = torch.autograd.grad(layer.filters(), layer.generators, cotangent)
    (direct,) = torch.autograd.grad(filters(weight), weight, cotangent)
    torch.testing.assert_close(cached, direct)


def test_random_generators_returns_parameters_of_unit_variance():
    generators = random_generators(40, 2, 5)
    assert isinstance(generators, torch.nn.Parameter)
    assert generators.shape == (40, 2, 5, 5)
    assert generators.std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 3), "generators must be an integer >= 1, got 0"),
        ((1, 1, 4), "kernel_size must be an odd .* got 4"),
        ((1, 1, 1), "kernel_size must be .* got 1"),
    ],
)
def test_random_generators_raises_for_bad_sizes(
    arguments: tuple[int, int, int], message: str
):
    with pytest.raises(ValueError, match=message):
        random_generators(*arguments)
