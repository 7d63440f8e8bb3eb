from __future__ import annotations

import contextlib
import io
import runpy
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "gallery" / "well_posedness.py"
ITERATIONS = 8


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the page after a short run, what it printed, and its figures."""
    figure = tmp_path_factory.mktemp("well_posedness") / "figure.png"
    arguments = ["--steps", "1", "--iterations", str(ITERATIONS), "--size", "24"]
    arguments += ["--searches", "2", "--figure", str(figure)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names = runpy.run_path(str(SCRIPT), run_name="__main__")
    plt.close("all")
    return names | {"figure_path": figure, "printed": printed.getvalue()}


def test_every_model_was_trained_on_the_same_crops(page: dict[str, Any]) -> None:
    fresh = page["deq"].models.SmallDRUNet(1).state_dict()
    for name in ("unrolled", "equilibrium"):
        weights = page["models"][name].prior[0].denoiser.state_dict()
        assert any(not torch.equal(fresh[key], weights[key]) for key in fresh)


def test_the_curve_passes_through_the_images_of_the_model(page: dict[str, Any]) -> None:
    model, curve = page["models"]["unrolled"], page["curves"]["unrolled"]
    with torch.no_grad():
        image = model(page["measured"], page["physics"])
    psnr = page["psnr"](image, page["truth"])
    torch.testing.assert_close(curve.psnr[page["K"] - 1], psnr, rtol=0, atol=1e-3)
    assert len(curve.psnr) == ITERATIONS


def test_the_search_stays_under_the_certificate(page: dict[str, Any]) -> None:
    attack, bound = page["attacks"]["certified"], page["certificate"].stability
    assert bound.is_certified
    assert attack.gain.max() <= bound.value
    sizes = attack.perturbation.flatten(1).norm(dim=1)
    torch.testing.assert_close(sizes, torch.full_like(sizes, page["delta"]))


def test_prints_what_was_computed_and_writes_the_figures(page: dict[str, Any]) -> None:
    results, printed = page["results"], page["printed"]
    for name in ("U-Net", "unrolled", "certified"):
        assert f"{name:9s} {results[name]['PSNR']:6.2f}" in printed
    assert printed.count("observed from 3 starts") == 3
    assert plt.imread(page["figure_path"]).shape[:2] == (572, 1056)
    further = page["figure_path"].with_stem("iterating_further")
    assert plt.imread(further).shape[:2] == (418, 1056)
