from __future__ import annotations

from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

import deepinv_equilibrium as deq
from deepinv_equilibrium.fixed_points.constant_weights import constant_weights
from deepinv_equilibrium.models import BoundedDnCNN, ConvexPotentialDenoiser
from deepinv_equilibrium.models.denoisers.weight_copies import (
    WeightCopy,
    is_cacheable,
)

from ...one_test import in_one_test


def write(weight: nn.Parameter, value: float) -> None:
    weight[1] = value


CHANGES = {
    "in place": lambda w: write(w, 2.0),
    "through data": lambda w: write(w.data, 2.0),
    "data replaced": lambda w: setattr(w, "data", w.data + 1),
    "foreach": lambda w: torch._foreach_mul_([w.data], 2.0),
    "numpy": lambda w: write(w.detach().numpy(), 2.0),
    "dtype": lambda w: setattr(w, "data", w.data.double()),
    "NaN": lambda w: w.data.fill_(torch.nan),
}


@in_one_test("name", CHANGES)
def test_weight_copy_detects_changes(name: str) -> None:
    weight = nn.Parameter(torch.ones(3))
    copy = WeightCopy(weight)
    assert copy.matches(weight)
    with torch.no_grad():
        CHANGES[name](weight)
    assert not copy.matches(weight)
    assert WeightCopy(weight).matches(weight) == (name != "NaN")
    assert copy.matches(nn.Parameter(torch.ones(3)))


def test_weight_copy_still_matches_after_a_backward_pass() -> None:
    weight = nn.Parameter(torch.ones(3))
    copy = WeightCopy(weight)
    (2 * weight).sum().backward()
    assert copy.matches(weight)


def test_is_cacheable_is_false_for_other_tensors_and_within_transforms() -> None:
    weight = nn.Parameter(torch.ones(3))
    assert is_cacheable(weight)
    assert not is_cacheable(2 * weight)
    assert not is_cacheable(weight.to("meta"))
    with torch.inference_mode():
        assert not is_cacheable(nn.Parameter(torch.ones(3)))
    seen = []

    def function(x):
        seen.append(is_cacheable(weight))
        return x.sum()

    torch.func.grad(function)(torch.ones(2))
    assert seen == [False]


def test_a_weight_is_compared_once_in_a_scope_and_again_in_the_next() -> None:
    weight = nn.Parameter(torch.ones(3))
    copy = WeightCopy(weight)
    with constant_weights():
        assert copy.matches(weight)
        with constant_weights():  # belongs to the outer one
            assert copy.matches(weight)
    weight.data[1] = 2.0
    with constant_weights():
        assert not copy.matches(weight)
    assert not copy.matches(weight)


SMALL = {
    ConvexPotentialDenoiser: {"layers": 2, "generators": 1, "kernel_size": 3},
    BoundedDnCNN: {"depth": 3, "filters": 4},
}


@pytest.mark.parametrize("denoiser", SMALL)
def test_weights_written_between_two_solves_are_bounded_again(denoiser: Any) -> None:
    """The dense norm of each layer stays at most 1, in the solve too."""
    torch.manual_seed(0)
    network = denoiser(1, pretrained=None, **SMALL[denoiser]).double()
    physics = dinv.physics.Denoising()
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(network),
        stepsize=0.5,
        sigma_denoiser=0.1,
        DEQ=deq.ReTune(1, 3, on_failure="ignore"),
    )
    y = torch.rand(1, 1, 6, 6, dtype=torch.float64)
    for scale in (1.0, 7.0, 0.2):
        for weight in network.parameters():
            weight.data.mul_(scale).add_(0.01 * torch.randn_like(weight))
        model(y, physics).sum().backward()
        for layer in network.layers:
            read = "filters" if hasattr(layer, "filters") else "normalised_weight"
            assert dense_norm(getattr(layer, read)().detach()) <= 1


def dense_norm(filters: torch.Tensor) -> float:
    """The norm of a zero-padded convolution of images of 6 x 6 pixels."""
    pixels = torch.eye(filters.shape[1] * 36, dtype=filters.dtype)
    images = pixels.reshape(-1, filters.shape[1], 6, 6)
    columns = conv2d(images, filters, padding="same").flatten(1)
    return float(torch.linalg.matrix_norm(columns, 2))
