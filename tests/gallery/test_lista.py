from __future__ import annotations

from typing import Any

import pytest
import torch

from .gallery_page import run_page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page after a short run."""
    folder = tmp_path_factory.mktemp("lista")
    return run_page(
        "lista", folder, STEPS=40, PHOTO_STEPS=1, LAYERS=[3], PHOTO_LAYERS=[2]
    )


def test_ista_chooses_a_weight_that_is_nearly_the_best_for_the_test(
    page: dict[str, Any],
) -> None:
    """Within a tenth of a decibel: they are chosen on other signals."""
    signals, physics = page["signals"], page["projections"]
    tried = []
    for weight in page["GRID"]:
        model = page["ISTA"](page["identity"], weight, max_iter=3)
        with torch.no_grad():
            tried.append(page["nmse"](model(physics.A(signals), physics), signals))
    assert page["results"]["ISTA(3)"]["NMSE"] == pytest.approx(min(tried), abs=0.1)
    assert page["results"]["ISTA(100)"]["NMSE"] < -8


def test_train_makes_lista_better_than_ista(page: dict[str, Any]) -> None:
    results = page["results"]
    for kind in ("tied", "untied"):
        learned = results[f"LISTA(3), {kind}"]["NMSE"]
        assert learned < results["ISTA(3)"]["NMSE"] - 0.3
        assert f"LISTA(3), {kind} {learned:.2f}" in page["printed"]


def test_training_validation_and_test_signals_differ(page: dict[str, Any]) -> None:
    sets = page["training"][:1000], page["validation"], page["signals"]
    for i, one in enumerate(sets):
        for other in sets[i + 1 :]:
            assert torch.cdist(one.cpu(), other.cpu()).min() > 0
    assert page["crops"]("test", 2, 96).shape == (2, 1, 96, 96)


def test_page_prints_the_psnr_of_every_denoiser(page: dict[str, Any]) -> None:
    images, truth = page["images"], page["tested"]
    assert set(images) == {"noisy", *(n for n in page["results"] if "photos" in n)}
    for name, image in images.items():
        value = page["psnr"](image, truth).mean().item()
        assert page["results"][name]["PSNR"] == value
        assert f"{value:.2f} dB" in page["printed"]
    assert page["results"]["photos: ISTA(2)"]["PSNR"] > 24
