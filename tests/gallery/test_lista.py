from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch

GALLERY = Path(__file__).parents[2] / "gallery"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the page after a short run, what it printed, and its figure."""
    figure = tmp_path_factory.mktemp("lista") / "figure.png"
    script = str(GALLERY / "lista.py")
    arguments = ["--steps", "40", "--photo-steps", "1", "--layers", "3"]
    arguments += ["--photo-layers", "2", "--figure", str(figure)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *arguments])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names = runpy.run_path(script, run_name="__main__")
    plt.close("all")
    return names | {"figure_path": figure, "printed": printed.getvalue()}


def test_ista_is_the_best_of_its_weights_on_the_test(page: dict[str, Any]) -> None:
    """Within a tenth of a decibel: they are chosen on other signals."""
    signals, physics = page["signals"], page["projections"]
    tried = []
    for weight in page["GRID"]:
        model = page["ISTA"](page["identity"], weight, max_iter=3)
        with torch.no_grad():
            tried.append(page["nmse"](model(physics.A(signals), physics), signals))
    assert page["results"]["ISTA(3)"]["NMSE"] == pytest.approx(min(tried), abs=0.1)
    assert page["results"]["ISTA(100)"]["NMSE"] < -8


def test_some_steps_make_lista_better_than_ista(page: dict[str, Any]) -> None:
    results = page["results"]
    for kind in ("tied", "untied"):
        learned = results[f"LISTA(3), {kind}"]["NMSE"]
        assert learned < results["ISTA(3)"]["NMSE"] - 0.3
        assert f"LISTA(3), {kind} {learned:.2f}" in page["printed"]


def test_nothing_is_trained_or_chosen_on_the_test(page: dict[str, Any]) -> None:
    sets = page["training"][:1000], page["validation"], page["signals"]
    for i, one in enumerate(sets):
        for other in sets[i + 1 :]:
            assert torch.cdist(one.cpu(), other.cpu()).min() > 0
    assert page["crops"]("test", 2, 96).shape == (2, 1, 96, 96)


def test_prints_the_psnr_of_every_denoiser(page: dict[str, Any]) -> None:
    images, truth = page["images"], page["tested"]
    assert set(images) == {"noisy", *(n for n in page["results"] if "photos" in n)}
    for name, image in images.items():
        value = page["psnr"](image, truth).mean().item()
        assert page["results"][name]["PSNR"] == value
        assert f"{value:.2f} dB" in page["printed"]
    assert page["results"]["photos: ISTA(2)"]["PSNR"] > 24


def test_shows_what_three_seeds_gave(page: dict[str, Any]) -> None:
    record = json.loads((GALLERY / "experiments" / "lista.json").read_text("utf-8"))
    assert len(record["seeds"]) >= 3
    assert record["command"] in page["printed"]
    for name in record["results"]:
        assert f"\n{name:28s} " in page["printed"]
    assert page["figure_path"].stat().st_size > 10_000
