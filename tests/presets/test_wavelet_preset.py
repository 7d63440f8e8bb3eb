"""Reconstruction with a weighted wavelet norm, by name."""

from __future__ import annotations

import pytest

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import WaveletReconstructor


def test_default_model_has_the_settings_of_the_paper() -> None:
    model = deq.plugins.create("reconstructors", "wavelet", channels=3)
    assert isinstance(model, WaveletReconstructor)
    assert sum(p.numel() for p in model.parameters()) == 13
    assert isinstance(model.DEQ, deq.ReTune)
    assert (model.DEQ.layers, model.DEQ.restarts, model.stepsize) == (10, 10, 1.95)


def test_preset_passes_arguments_to_prior_and_model() -> None:
    config = deq.Equilibrium()
    model = deq.plugins.create(
        "reconstructors",
        "wavelet",
        wavelet="haar",
        levels=3,
        initial_weight=0.2,
        DEQ=config,
        stepsize="optimal",
        normalised=True,
    )
    prior = model.prior
    assert (prior.channels, prior.transform.wavelet, prior.transform.levels) == (
        None,
        "haar",
        3,
    )
    assert prior.log_scale.exp().tolist() == pytest.approx([0.2] * 3)
    assert model.DEQ is config
    assert (model.stepsize, model.normalised) == ("optimal", True)


def test_preset_raises_for_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="It takes"):
        deq.plugins.create("reconstructors", "wavelet", denoiser="small-drunet")
    with pytest.raises(ValueError, match="levels"):
        deq.plugins.create("reconstructors", "wavelet", levels=0)
