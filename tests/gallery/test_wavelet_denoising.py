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

SCRIPT = Path(__file__).parents[2] / "gallery" / "wavelet_denoising.py"
STEPS = 1


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the page after a short run, what it printed, and its figure."""
    figure = tmp_path_factory.mktemp("wavelet_denoising") / "figure.png"
    arguments = ["--steps", str(STEPS), "--figure", str(figure)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names = runpy.run_path(str(SCRIPT), run_name="__main__")
    plt.close("all")
    return names | {"figure_path": figure, "printed": printed.getvalue()}


def test_all_pairs_and_steps_are_trained_on_the_same_noise(
    page: dict[str, Any],
) -> None:
    assert len(page["models"]) == 24
    for (prior, step_size, block), model in page["models"].items():
        count = sum(p.numel() for p in model.parameters())
        assert count == {"theta_B": 7, "theta_BC": 13}[prior]
        assert (model.DEQ.layers, model.DEQ.restarts) == block
        assert model.normalised == (step_size == "normalised")
        assert (model.stepsize == "optimal") == (step_size == "2/(mu+L)")
        assert len(page["curves"][prior, step_size, block]) == STEPS
        assert all(bool(p.any()) for p in model.parameters())  # none is left at 0
    noise = page["pairs"][0]["y"] - page["pairs"][0]["x"]
    assert noise.std((1, 2)).tolist() == pytest.approx([0.1, 0.25, 0.5], rel=0.1)


def test_what_is_printed_is_measured_on_held_out_photos(page: dict[str, Any]) -> None:
    run = ("theta_BC", "1.95/L", (10, 10))
    row = page["results"]["theta_BC 1.95/L (10, 10)"]
    with torch.no_grad():
        x = page["models"][run](page["measured"], page["physics"])
    expected = -10 * (x - page["truth"]).square().mean((1, 2, 3)).log10().mean()
    assert row["held-out"] == pytest.approx(expected.item(), abs=1e-3)
    line = next(
        line
        for line in page["printed"].splitlines()
        if line.startswith("theta_BC 1.95/L (10, 10)")
    )
    assert float(line.split()[-2]) == pytest.approx(row["held-out"], abs=0.006)


def test_the_kept_run_is_that_of_its_command(page: dict[str, Any]) -> None:
    kept = json.loads(page["record"].read_text("utf-8"))
    assert kept["command"] in page["printed"]
    assert kept["results"].keys() == page["results"].keys()
    for row in kept["results"].values():
        assert row.keys() == {"training", "held-out", "minimiser"}
        assert all(len(values) == len(kept["seeds"]) >= 3 for values in row.values())


def test_writes_the_figure(page: dict[str, Any]) -> None:
    assert plt.imread(page["figure_path"]).shape[:2] == (1100, 1430)
    assert f"{page['figure_path']}, " in page["printed"]
