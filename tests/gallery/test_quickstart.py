from __future__ import annotations

import contextlib
import io
import math
import runpy
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch

from deepinv_equilibrium import Status

SCRIPT = Path(__file__).parents[2] / "gallery" / "quickstart.py"
ROWS = ("defaults", "(b)", "control", "(c)")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the page after a short run, what it printed, and its figure."""
    figure = tmp_path_factory.mktemp("quickstart") / "figure.png"
    arguments = ["-K", "2", "-T", "2", "--steps-b", "2", "--steps-c", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *arguments, "--figure", str(figure)])
        patch.setattr(plt, "show", lambda: None)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names = runpy.run_path(str(SCRIPT), run_name="__main__")
    plt.close("all")
    return names | {"figure_path": figure, "printed": printed.getvalue()}


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([w.flatten() for w in model.prior.parameters()])


def test_every_stage_learns_what_it_says(page: dict[str, Any]):
    defaults, b, control, c = (page["models"][name] for name in ROWS)
    for name in ("stepsize", "g_param"):
        values = [m.params_algo[name][0].item() for m in (defaults, b, control, c)]
        assert len(set(values[:3])) == 3  # (b) learns them, and the control goes on
        assert values[3] == values[1]
    assert torch.equal(weights(b), weights(defaults))
    assert torch.equal(weights(control), weights(defaults))
    assert not torch.equal(weights(c), weights(defaults))


def test_step_size_stays_where_the_data_step_is_nonexpansive(page: dict[str, Any]):
    model = page["build"](page["denoiser"], restarts=1)
    parameters = list(model.params_algo.parameters())
    page["train"](model, parameters, lr=1.0, steps=1, seed=0)
    # One step of Adam would reach exp(1).
    assert math.isclose(model.params_algo["stepsize"][0].item(), 1.8, rel_tol=1e-6)


def test_reports_the_held_out_photos(page: dict[str, Any]):
    assert page["photos"].names == ("chelsea", "retina", "coins", "moon", "page")
    for name in ROWS:
        for restarts, (restored, solution) in (
            (2, page["at_t"][name]),
            (8, page["at_4t"][name]),
        ):
            assert restored.shape == (5, 3, 96, 96)
            assert solution.status == (Status.COMPLETED,) * 5
            assert solution.evaluations.tolist() == [restarts] * 5
            assert solution.history.shape == (restarts, 5)


def test_prints_what_it_measured(page: dict[str, Any]):
    rows = {
        name: line.split()[1:]
        for line in page["printed"].splitlines()
        for name in ("degraded", *ROWS)
        if line.startswith(f"{name} ")
    }
    truth, images = page["truth"], {"degraded": [page["measured"]]}
    for name in ROWS:
        images[name] = [page["at_t"][name][0], page["at_4t"][name][0]]
    for name, restored in images.items():
        errors = [(x - truth).square().mean((1, 2, 3)) for x in restored]
        psnr = [-10 * error.log10().mean().item() for error in errors]
        printed = [float(value) for value in rows[name][: len(psnr)]]
        assert printed == pytest.approx(psnr, abs=6e-3)
    assert str(page["at_4t"]["(c)"][1]) in page["printed"]


def test_writes_a_figure_of_a_sensible_size(page: dict[str, Any]):
    height, width, _ = plt.imread(page["figure_path"]).shape
    assert 300 < height < 600
    assert 1000 < width < 2000
