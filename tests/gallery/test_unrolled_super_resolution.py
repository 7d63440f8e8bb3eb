from __future__ import annotations

from typing import Any

import pytest
import torch

from .gallery_page import run_page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("unrolled_super_resolution")
    return run_page(
        "unrolled_super_resolution",
        folder,
        STEPS=1,
        LAYERS=2,
        FRESH=6,
        TEST_SIZE=40,
    )


def test_train_changes_every_layer_of_learned_models_only(page: dict[str, Any]) -> None:
    for name, model in page["models"].items():
        steps = [float(value.detach()) for value in model.params_algo["stepsize"]]
        assert len(steps) == (2 if name.endswith("layers") else 1)
        learned = name.endswith(("shared", "layers"))
        for step in steps:
            assert (step != pytest.approx(page["STEP"], rel=1e-4)) == learned
        if name.startswith("network"):
            pairs = zip(
                model.prior.parameters(),
                page["models"]["network, plugged in"].prior.parameters(),
                strict=False,
            )
            assert any(not torch.equal(a, b) for a, b in pairs) == learned
    untied = page["models"]["network, layers"].prior
    first, second = (layer.denoiser.m_head.weight for layer in untied)
    assert not torch.equal(first, second)


def test_bicubic_interpolation_does_not_shift_a_ramp(page: dict[str, Any]) -> None:
    """A ramp stays where it is in the mean: half a pixel would be 5e-3."""
    ramp = torch.linspace(0, 1, 96).expand(1, 1, 96, 96)
    low = page["physics"].A(ramp)
    high = page["interpolate"](low, scale_factor=2, mode="bicubic")
    inner = slice(16, -16)
    assert (high - ramp)[..., inner, inner].mean().abs() < 1e-5


def test_test_crops_differ_from_training_crops(page: dict[str, Any]) -> None:
    """Test crops, cut to the size of the others, differ from them."""
    held_out = page["crops"]("test", 15, 40, 0).flatten(1)
    assert page["tested"].shape == (15, 1, 40, 40)
    trained = page["photos"]
    for images in (trained, page["tried"]):
        assert torch.cdist(images.flatten(1), held_out).min() > 0.5


def test_page_prints_every_method(page: dict[str, Any]) -> None:
    assert set(page["results"]) == {"bicubic", *page["models"]}
    for name, scores in page["results"].items():
        truth = page["tested"]
        assert scores["PSNR"] == page["psnr"](page["images"][name], truth).mean()
        line = f"{name:20s} {scores['PSNR']:.2f}  {scores['SSIM']:.3f}  "
        assert line in page["printed"]
