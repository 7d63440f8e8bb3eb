"""Total variation with an estimated weight, by name."""

from __future__ import annotations

import deepinv as dinv
import pytest
import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium import plugins
from deepinv_equilibrium.models import ConstantTVMap, TVMapReconstructor, UNetTVMap


def test_default_model_is_a_trainable_u_net_with_256_iterations() -> None:
    model = plugins.create("reconstructors", "tv-map")
    assert isinstance(model, TVMapReconstructor)
    assert isinstance(model.tv_map, UNetTVMap)
    assert isinstance(model.DEQ, deq.ReTune)
    assert model.DEQ.layers * model.DEQ.restarts == 256
    y = torch.rand(2, 1, 12, 13)
    x = model(y, dinv.physics.Denoising())
    assert x.shape == y.shape
    x.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_each_model_has_its_own_configuration() -> None:
    one, other = (plugins.create("reconstructors", "tv-map") for _ in range(2))
    assert one.DEQ is not other.DEQ


def test_preset_passes_arguments_to_map_and_model() -> None:
    model = plugins.create(
        "reconstructors",
        "tv-map",
        in_channels=2,
        directions=(1, 0, 0),
        filters=16,
        initial_weight=(0.03, 0.2),
        max_iter=5,
        norm="componentwise",
        input_iterations=2,
        stepsize=1.5,
        show_progress_bar=True,
    )
    assert sum(p.numel() for p in model.tv_map.parameters()) > 97216
    assert model.tv_map.directions == (1, 0, 0)
    assert (model.max_iter, model.norm, model.input_iterations) == (
        5,
        "componentwise",
        2,
    )
    assert model.show_progress_bar
    step, _ = model.fixed_point_problem(
        torch.zeros(1, 2, 4, 6, 6), dinv.physics.Denoising()
    )
    assert step.tau.item() == pytest.approx(1.5, rel=1e-5)
    weight = step.weight.mean(dim=(0, 1, 3, 4, 5)).tolist()
    assert weight == pytest.approx([0.2, 0.03, 0.03], rel=1e-4)


def test_constant_creates_a_constant_map() -> None:
    model = plugins.create(
        "reconstructors",
        "tv-map",
        constant=True,
        directions=(0, 1, 1),
        initial_weight=(0.04, 0.005),
        DEQ=deq.Equilibrium(),
    )
    assert isinstance(model.tv_map, ConstantTVMap)
    assert model.tv_map.weights == pytest.approx((0.04, 0.005))
    assert model.max_iter is None


def test_preset_raises_for_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="It takes"):
        plugins.create("reconstructors", "tv-map", denoiser="small-drunet")
    with pytest.raises(ValueError, match="give either max_iter"):
        plugins.create("reconstructors", "tv-map", max_iter=3, DEQ=deq.ReTune(2, 2))
    with pytest.raises(ValueError, match="filters must be an integer >= 1"):
        plugins.create("reconstructors", "tv-map", filters=0)
