"""Denoisers that are given as modules or by name."""

from __future__ import annotations

import pytest
from torch import nn

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import ConvexPotentialDenoiser, SmallDRUNet
from deepinv_equilibrium.presets.named_components import contractive_denoiser


def test_contractive_denoiser_creates_named_denoiser_with_contraction() -> None:
    denoiser = contractive_denoiser("ridge-prox", 0.7)
    assert deq.lipschitz(denoiser).value == pytest.approx(0.7)


def test_contractive_denoiser_returns_module_unchanged() -> None:
    own = ConvexPotentialDenoiser(1, contraction=0.8)
    assert contractive_denoiser(own, 0.5) is own
    assert deq.lipschitz(own).value == pytest.approx(0.8, rel=1e-5)


def test_contractive_denoiser_raises_for_denoiser_without_proved_contraction() -> None:
    with pytest.raises(ValueError, match=r"contraction=0\.99"):
        contractive_denoiser(ConvexPotentialDenoiser(1), 0.5)
    with pytest.raises(ValueError, match="SmallDRUNet cannot be certified"):
        contractive_denoiser(SmallDRUNet(1), 0.5)
    with pytest.raises(TypeError, match="contraction must be a number, got 'a'"):
        contractive_denoiser("ridge-prox", "a")
    with pytest.raises(TypeError, match="denoiser must be"):
        contractive_denoiser(nn.Identity(), 0.5)
