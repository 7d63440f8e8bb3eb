from __future__ import annotations

import contextlib
import io
import json
import runpy
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch

GALLERY = Path(__file__).parents[2] / "gallery"
SCRIPT = GALLERY / "ct_comparison.py"
STEPS, ITERATIONS = 2, 8
METHODS = ["FBP", "projected gradient", "TV"]
NETWORKS = ["U-Net", "learned gradient", "learned primal-dual"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the page after a short run, what it printed, and its figure."""
    figure = tmp_path_factory.mktemp("ct_comparison") / "figure.png"
    arguments = ["--steps", str(STEPS), "--iterations", str(ITERATIONS)]
    arguments += ["--figure", str(figure)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names = runpy.run_path(str(SCRIPT), run_name="__main__")
    plt.close("all")
    return names | {"figure_path": figure, "printed": printed.getvalue()}


def test_the_numbers_are_those_of_the_images(page: dict[str, Any]) -> None:
    assert list(page["results"]) == METHODS + NETWORKS
    for name, row in page["results"].items():
        assert len(row) == 4
        image, truth = page["images"][name], page["truth"]
        psnr, ssim = page["psnr"](image, truth), page["ssim"](image, truth)
        assert row["PSNR ellipses"] == pytest.approx(psnr[:8].mean().item())
        assert row["SSIM Shepp-Logan"] == pytest.approx(ssim[8:].mean().item())
        assert f"{row['PSNR ellipses']:.3f}" in page["printed"]


def test_weights_are_chosen_on_images_that_are_not_tested(page: dict[str, Any]) -> None:
    trained = torch.stack([pair["x"] for pair in page["pairs"]])
    assert len(trained) == STEPS
    everything = torch.cat([trained, page["validation"], page["truth"][:9]])
    distances = torch.cdist(everything.flatten(1), everything.flatten(1))
    assert distances.fill_diagonal_(1e9).min() > 1

    tried = []
    with torch.no_grad():
        for weight in page["grid"]:
            image = page["total_variation"](weight)(
                page["of_validation"], page["physics"]
            )
            tried.append(page["psnr"](image, page["validation"]).mean().item())
    best = page["grid"][tried.index(max(tried))]
    assert page["models"]["TV"].tv_map.weights[0] == pytest.approx(best)
    assert f"total_variation: {best:g} of" in page["printed"]


def test_every_network_is_trained_in_the_published_size(page: dict[str, Any]) -> None:
    assert list(page["networks"]) == NETWORKS
    for count in (129_553, 13_318, 251_980):
        assert f"{count} parameters, {STEPS} steps" in page["printed"]
    torch.manual_seed(0)
    for network in page["networks"].values():
        fresh = type(network)()
        assert not torch.equal(
            next(network.parameters()).cpu(), next(fresh.parameters())
        )
        assert not network.training


def test_extrapolation_is_what_makes_the_iterates_converge(
    page: dict[str, Any],
) -> None:
    without, extrapolated = page["rounds"][0.0], page["rounds"][1.0]
    assert max(without[1:]) > 0.5
    assert extrapolated == sorted(extrapolated, reverse=True)
    assert extrapolated[-1] < 0.5 * max(without[1:])


def test_the_longer_run_is_shown_with_its_order(page: dict[str, Any]) -> None:
    record = json.loads((GALLERY / "experiments/ct_comparison.json").read_text("utf-8"))
    assert len(record["seeds"]) >= 3
    assert record["command"] in page["printed"]
    for name in METHODS + NETWORKS:
        values = record["results"][name]["PSNR ellipses"]
        shown = f"{statistics.mean(values):8.3f} +- {statistics.stdev(values):.3f}"
        assert shown in page["printed"]


def test_writes_the_figure(page: dict[str, Any]) -> None:
    assert plt.imread(page["figure_path"]).shape[:2] == (528, 1650)
