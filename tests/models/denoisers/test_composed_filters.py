from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepinv_equilibrium.certificates import convolution_norm
from deepinv_equilibrium.models import ComposedFilters
from deepinv_equilibrium.models.denoisers.composed_filters import (
    grid_size,
    responses,
    responses_adjoint,
)

from ...one_test import in_one_test
from ..images import random_images

SHAPES = {2: [(1, 1), (2, 5), (4, 3), (9, 7)], 3: [(1, 1, 2), (2, 3, 4)]}


def random_filters(seed: int, **options: object) -> ComposedFilters:
    torch.manual_seed(seed)
    defaults = {"hidden_channels": (2, 3), "generators": 2, "kernel_size": 3}
    return ComposedFilters(**{**defaults, **options}).double()


def test_composed_filters_are_the_composition_of_the_convolutions():
    module = random_filters(0, in_channels=2)
    x = random_images(0, (1, 2, 9, 9))
    first, second, third = module.convolutions
    expected = torch.nn.functional.conv2d(x, first - first.mean((2, 3), keepdim=True))
    expected = torch.nn.functional.conv2d(expected, second)
    expected = torch.nn.functional.conv2d(expected, third)
    actual = torch.nn.functional.conv2d(x, module())[:, :2]
    scale = (expected / actual).flatten()[0]
    assert scale > 0
    torch.testing.assert_close(actual * scale, expected)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    channels=st.integers(1, 3),
    hidden=st.sampled_from([(), (2,), (2, 3)]),
    dim=st.sampled_from([2, 2, 3]),
    shape=st.integers(0, 3),
    magnitude=st.sampled_from([1e-12, 1.0, 1e12]),
)
def test_norm_of_the_responses_is_at_most_one_for_every_size(
    seed: int,
    channels: int,
    hidden: tuple[int, ...],
    dim: int,
    shape: int,
    magnitude: float,
):
    kwargs = {"in_channels": channels, "hidden_channels": hidden, "dim": dim}
    module = random_filters(seed, **kwargs)
    for weight in module.convolutions:
        weight.data *= magnitude
    size = (channels, *SHAPES[dim][shape % len(SHAPES[dim])])
    basis = torch.eye(torch.Size(size).numel()).double().reshape(-1, *size)
    with torch.no_grad():
        dense = responses(basis, module()).flatten(1).mT
    assert torch.linalg.matrix_norm(dense, 2) <= 1 + 1e-12
    # The adjoint is the transpose.
    r = random_images(seed, (1, len(module()), *size[1:]))
    back = responses_adjoint(r, module()).detach().flatten()
    torch.testing.assert_close(back, dense.mT @ r.flatten())


def test_norm_is_within_two_percent_of_the_truth_on_64_by_64_pixels():
    for seed in range(3):
        torch.manual_seed(seed)
        filters = ComposedFilters(generators=4)().double().detach()
        assert filters.shape[-1] == 13
        symbols = torch.fft.rfft2(filters[:, 0], (64, 64))
        truth = symbols.abs().square().sum(0).amax().sqrt()
        bound = convolution_norm(filters, grid=grid_size(13, 2))
        assert truth <= bound <= 1.02 * truth
        assert 0.98 <= bound <= 1


def test_filters_do_not_respond_to_constant_images():
    module = random_filters(1, in_channels=2)
    constant = torch.tensor([0.5, -2.0]).double()[None, :, None, None]
    assert responses(constant.expand(1, 2, 4, 5), module()).abs().max() < 1e-14


def test_filters_are_cached_until_the_weights_change():
    module = random_filters(2)
    with torch.no_grad():
        before = module()
        assert module() is before
        module.convolutions[1].data[0, 0, 0, 0] += 1.0
        after = module()
    assert not torch.equal(before, after)
    assert torch.equal(after, module().detach())
    assert module().requires_grad


@in_one_test(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "in_channels must be an integer >= 1"),
        ({"generators": 0}, "generators must be an integer >= 1"),
        ({"hidden_channels": (4, 0)}, "hidden_channels must be an integer >= 1"),
        ({"kernel_size": 4}, "kernel_size must be an odd .* got 4"),
        ({"dim": 1}, "dim must be 2 or 3, got 1"),
    ],
)
def test_constructor_raises_for_bad_arguments(
    arguments: dict[str, object], message: str
):
    with pytest.raises(ValueError, match=message):
        ComposedFilters(**arguments)
