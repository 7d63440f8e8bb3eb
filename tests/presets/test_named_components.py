"""Denoisers that are given as modules or by name."""

from __future__ import annotations

import deepinv as dinv
import pytest
import torch
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


@pytest.mark.parametrize("channels", [1, 3])
def test_in_channels_is_that_of_a_denoiser_given_by_its_name(channels: int) -> None:
    size, physics = (channels, 12, 12), dinv.physics.Denoising()
    certified = deq.plugins.create(
        "reconstructors", "certified-deq-pgd", in_channels=channels
    )
    assert deq.certify(certified, physics, size).contracts
    y = torch.rand(2, *size)
    for name in ("retune-pgd", "deq-gd"):
        model = deq.plugins.create(
            "reconstructors",
            name,
            denoiser="small-drunet",
            in_channels=channels,
            on_failure="ignore",
        )
        assert model(y, physics).shape == y.shape
    red = deq.plugins.create(
        "priors", "red", denoiser="convex-potential", in_channels=channels
    )
    assert red.grad(y, 0.1).shape == y.shape


def test_in_channels_beside_a_module_or_without_weights_is_refused() -> None:
    create = deq.plugins.create
    denoiser = ConvexPotentialDenoiser(1, contraction=0.8)
    for kind, name in (
        ("reconstructors", "certified-deq-pgd"),
        ("reconstructors", "deq-pgd"),
        ("reconstructors", "retune-pgd"),
        ("reconstructors", "equilibrium-regularisation"),
        ("priors", "red"),
    ):
        with pytest.raises(ValueError, match=r"in_channels=1 is for a component that"):
            create(kind, name, denoiser=denoiser, in_channels=1)
    with pytest.raises(ValueError, match=r"1 \(grey\) or 3 \(colour\) for the bundled"):
        create("reconstructors", "certified-deq-pgd", in_channels=2)


def test_a_volume_is_certified_by_name() -> None:
    denoiser = deq.plugins.create(
        "denoisers", "ridge-prox", contraction=0.9, pretrained=None, dim=3
    )
    model = deq.plugins.create("reconstructors", "certified-deq-pgd", denoiser=denoiser)
    certificate = deq.certify(model, dinv.physics.Denoising(), (1, 6, 6, 6))
    assert certificate.contracts
