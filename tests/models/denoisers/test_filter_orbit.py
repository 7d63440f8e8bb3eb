from __future__ import annotations

import pytest
import torch

from deepinv_equilibrium.certificates import convolution_norm
from deepinv_equilibrium.models.denoisers.oriented_filters import (
    normalised_orbit,
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
def test_normalised_orbit_has_mean_zero_and_norm_near_one(scale: float):
    generators = scale * torch.randn(2, 3, 5, 5, **DOUBLE)
    filters = normalised_orbit(generators, 1e-3)
    assert filters.shape == (16, 3, 5, 5)
    assert filters.mean(dim=(-2, -1)).abs().max() < 1e-15
    # The margin is twice the rounding error.
    norm = convolution_norm(filters).item()
    assert norm == pytest.approx(1 / 1.002, rel=1e-9)


def test_normalised_orbit_of_zero_is_zero():
    assert not normalised_orbit(torch.zeros(1, 1, 3, 3), 0.0).any()
    assert not normalised_orbit(torch.ones(1, 1, 3, 3), 0.0).any()


def test_normalised_orbit_is_differentiable():
    generators = torch.randn(1, 1, 3, 3, **DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: normalised_orbit(w, 1e-3), generators)


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
