from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import deepinv as dinv
import matplotlib.pyplot as plt
import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "gallery" / "poisson_mirror_descent.py"
RECORD = SCRIPT.parent / "experiments" / "poisson_mirror_descent.json"
METHODS = ["y", "TV", "PnP", "energy", "DEQ-MD"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the page after a short run, what it printed, and its figure."""
    figure = tmp_path_factory.mktemp("poisson_mirror_descent") / "figure.png"
    arguments = ["--steps", "1", "--size", "16", "--iterations", "8"]
    arguments += ["--figure", str(figure)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names = runpy.run_path(str(SCRIPT), run_name="__main__")
    plt.close("all")
    return names | {"figure_path": figure, "printed": printed.getvalue()}


def test_a_batch_holds_every_blur_and_noise_level(page: dict[str, Any]) -> None:
    physics = page["physics"]
    settings = list(
        zip(page["blur_of"].tolist(), page["alpha_of"].tolist(), strict=True)
    )
    assert len(set(settings)) == 9 == len(page["truth"])
    clean = physics.A(page["truth"])
    for i, (blur, alpha) in enumerate(settings):
        single = dinv.physics.BlurFFT((1, 16, 16), filter=page["kernels"][blur][None])
        torch.testing.assert_close(clean[i : i + 1], single.A(page["truth"][i : i + 1]))
        counts = page["measured"][i] * (40, 60, 100)[alpha]
        torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-3)


def test_only_deq_md_has_learned_and_energies_only_fall(page: dict[str, Any]) -> None:
    fresh = page["deq"].models.SmallDRUNet(in_channels=1)
    shipped = dict(fresh.named_parameters())
    for name, weight in page["prior"].denoiser.named_parameters():
        assert not torch.equal(weight, shipped[name])
    for name, weight in page["denoiser"].named_parameters():
        assert torch.equal(weight, shipped[name])
    assert set(page["increase"]) == {"TV", "energy", "DEQ-MD"}
    assert all(value <= 33 * 1.2e-7 for value in page["increase"].values())


def test_results_are_means_of_the_images(page: dict[str, Any]) -> None:
    assert list(page["results"]) == METHODS
    for name, image in page["images"].items():
        values = page["psnr"](image, page["truth"])
        row = page["results"][name]
        assert row["PSNR"] == pytest.approx(float(values.mean()))
        parts = [row[m] for m in ("Gaussian", "motion", "uniform")]
        assert sum(parts) / 3 == pytest.approx(row["PSNR"])
        parts = [row[m] for m in ("alpha 40", "alpha 60", "alpha 100")]
        assert sum(parts) / 3 == pytest.approx(row["PSNR"])
        assert f"{row['SSIM']:.3f}" in page["printed"]


def test_the_experiment_is_shown_with_its_command(page: dict[str, Any]) -> None:
    kept = json.loads(RECORD.read_text("utf-8"))
    assert kept["command"] in page["printed"]
    assert len(kept["seeds"]) >= 3
    assert list(kept["results"]) == METHODS
    for name, row in kept["results"].items():
        values = torch.tensor(row["PSNR"])
        text = f"{values.mean():.2f} ± {values.std():.2f}"
        assert text in page["printed"], name


def test_writes_the_figure(page: dict[str, Any]) -> None:
    assert plt.imread(page["figure_path"]).shape[1] == 1540
    assert f"{page['figure_path']}, " in page["printed"]


def test_the_scalar_form_is_trained_and_descends(page: dict[str, Any]) -> None:
    scalar, filters = page["scalar"], page["filters"].weight.detach().cpu()
    assert scalar.solution.largest_increase.max() <= 1e-6
    assert not torch.equal(filters[:8], -filters[8:])  # as it began
    assert f"scalar form: {page['scalar_psnr']:.2f} dB" in page["printed"]
