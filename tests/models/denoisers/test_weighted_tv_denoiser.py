from __future__ import annotations

import copy

import deepinv as dinv
import pytest
import torch
from deepinv.models import Denoiser

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import WeightedTVDenoiser
from deepinv_equilibrium.optim import WeightedTVPrior
from deepinv_equilibrium.optim.total_variation import weighted_tv_prox

from ...one_test import in_one_test

V = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}
IMAGES = torch.rand(2, 3, 7, 5, **V)


@pytest.mark.parametrize("norm", ["isotropic", "componentwise"])
def test_forward_is_the_proximal_operator(norm: str):
    denoiser = WeightedTVDenoiser(norm, tol=1e-8, max_iter=20000)
    weight = 0.2 * torch.rand(2, 1, 7, 5, **V)
    expected = weighted_tv_prox(IMAGES, weight, norm, 1e-8, 20000)
    assert torch.equal(denoiser(IMAGES, weight), expected.x)
    found = denoiser.solve(IMAGES, weight)
    assert torch.equal(found.dual, expected.dual)
    warm = denoiser.solve(IMAGES, weight, dual=found.dual)
    assert (warm.iterations < expected.iterations / 2).all()
    prior = WeightedTVPrior(norm, tol=1e-8, max_iter=20000)
    assert torch.equal(prior.prox(IMAGES, weight), expected.x)


def test_forward_does_not_depend_on_earlier_calls():
    denoiser = WeightedTVDenoiser()
    before = copy.deepcopy(vars(denoiser))
    first = denoiser(IMAGES, 0.1)
    denoiser(torch.rand(1, 1, 4, 4), 0.3)
    assert torch.equal(denoiser(IMAGES, 0.1), first)
    assert torch.equal(copy.deepcopy(denoiser)(IMAGES, 0.1), first)
    assert torch.equal(denoiser.eval()(IMAGES, 0.1), first)
    assert vars(denoiser.train()) == before
    assert not denoiser.state_dict()
    assert isinstance(denoiser, Denoiser)


@in_one_test(
    ("shape", "dtype"),
    [
        ((1, 1, 1, 1), torch.float32),
        ((2, 3, 5, 8), torch.float64),
        ((1, 2, 3, 4, 5), torch.float32),
        ((2, 1, 4, 4), torch.complex64),
    ],
)
def test_forward_keeps_shape_and_dtype(shape: tuple[int, ...], dtype: torch.dtype):
    x = torch.randn(shape, dtype=dtype)
    out = WeightedTVDenoiser()(x, 0.1)
    assert out.shape == shape
    assert out.dtype == dtype


def test_forward_reduces_the_error_of_a_noisy_image():
    x = torch.zeros(1, 1, 32, 32)
    x[..., 8:24, 8:24] = 1.0
    y = x + 0.1 * torch.randn(x.shape)
    error = (WeightedTVDenoiser()(y, 0.15) - x).square().mean()
    assert error < 0.1 * (y - x).square().mean()


def test_plug_and_play_accepts_a_map_of_weights():
    y = torch.rand(1, 1, 8, 8)
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(WeightedTVDenoiser()),
        stepsize=1.0,
        g_param=[torch.full((1, 1, 8, 8), 0.1)],
        DEQ=deq.Equilibrium(deq.Picard()),
    )
    x = model(y, dinv.physics.Denoising())
    torch.testing.assert_close(x, WeightedTVDenoiser()(y, 0.1), rtol=0, atol=2e-3)


def test_lipschitz_bound_is_estimated():
    bound = deq.lipschitz(WeightedTVDenoiser(), (1, 8, 8))
    assert bound.value == 1
    assert not bound.is_certified
    assert "duality gap of 0.0001" in bound.source


def test_create_by_name_returns_the_denoiser():
    denoiser = deq.plugins.create("denoisers", "weighted-tv", norm="componentwise")
    assert isinstance(denoiser, WeightedTVDenoiser)
    assert denoiser.norm == "componentwise"
    assert isinstance(deq.plugins.create("priors", "weighted-tv"), WeightedTVPrior)


@in_one_test(
    ("options", "message"),
    [
        ({"norm": "l1"}, "norm must be one of"),
        ({"tol": 1.0}, r"tol must be in \[0, 1\), got 1.0"),
        ({"max_iter": 0.5}, "max_iter must be an integer"),
        ({"on_failure": "stop"}, "on_failure must be one of"),
    ],
)
def test_constructor_raises_for_bad_options(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        WeightedTVDenoiser(**options)


def test_forward_raises_for_bad_input():
    with pytest.raises(ValueError, match=r"must have shape \(B, C, H, W\)"):
        WeightedTVDenoiser()(torch.rand(8, 8), 0.1)
    with pytest.raises(ValueError, match="weight must be nonnegative"):
        WeightedTVDenoiser()(IMAGES, -0.1)
