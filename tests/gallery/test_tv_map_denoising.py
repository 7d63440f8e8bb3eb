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

from deepinv_equilibrium import Status

SCRIPT = Path(__file__).parents[2] / "gallery" / "tv_map_denoising.py"
ROWS = ("noisy", "scalar", "oracle", "map")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the page after a short run, what it printed, and its figure."""
    figure = tmp_path_factory.mktemp("tv_map_denoising") / "figure.png"
    arguments = ["--steps", "3", "--size", "40", "--figure", str(figure)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names = runpy.run_path(str(SCRIPT), run_name="__main__")
    plt.close("all")
    return names | {"figure_path": figure, "printed": printed.getvalue()}


def psnr(images: torch.Tensor, truth: torch.Tensor) -> list[float]:
    values = -10 * (images - truth).square().mean((1, 2, 3)).log10()
    return [*values.tolist(), values.mean().item()]


def test_both_models_learn_weights_and_step_sizes(page: dict[str, Any]) -> None:
    assert page["one_weight"].weights != pytest.approx((0.08,), rel=1e-3)
    torch.manual_seed(0)
    untrained = page["deq"].models.UNetTVMap(1, (0, 0), initial_weight=0.15)
    for before, after in zip(
        untrained.parameters(), page["unet"].parameters(), strict=True
    ):
        assert not torch.equal(before, after)
    fresh = page["deq"].models.TVMapReconstructor(untrained, max_iter=1)
    for model in page["models"].values():
        for name, before in fresh.step_sizes.named_parameters():
            assert model.step_sizes.get_parameter(name) != before


def test_weights_are_compared_at_the_same_accuracy(page: dict[str, Any]) -> None:
    assert set(page["solved"]) == {"scalar", "map"}
    for name, solved in page["solved"].items():
        assert solved.status == (Status.CONVERGED,) * 5
        assert (solved.residual <= 1e-5).all()
        weight = page["models"][name].parameter_map(page["measured"], page["physics"])
        assert torch.equal(weight, page["maps"][name])


def test_prints_every_photo_of_every_weight(page: dict[str, Any]) -> None:
    rows: dict[str, list[list[float]]] = {name: [] for name in ROWS}
    for line in page["printed"].splitlines():
        name, *values = line.split() or [""]
        if name in ROWS and len(values) == 6:
            rows[name].append([float(value) for value in values])
    truth = page["truth"]
    images = {name: solved.x for name, solved in page["solved"].items()}
    images |= {"noisy": page["measured"], "oracle": page["oracle"]}
    for name in ROWS:
        in_decibels, similarity = rows[name]
        assert in_decibels == pytest.approx(psnr(images[name], truth), abs=6e-3)
        assert all(0 < value <= 1 for value in similarity)


def test_oracle_is_the_best_scalar_of_each_photo(page: dict[str, Any]) -> None:
    tried, best, grid = page["tried"][:, 0], page["best"], page["grid"]
    torch.testing.assert_close(tried.amax(0), page["results"]["oracle"][0])
    assert (grid.min() < best).all()
    assert (best < grid.max()).all()
    for photo, weight in enumerate(best):
        nearby = page["denoiser"](page["measured"][photo, None], weight)
        value = psnr(nearby, page["truth"][photo, None])[0]
        assert value == pytest.approx(tried[:, photo].max().item(), abs=1e-2)


def test_every_configuration_goes_to_the_minimiser(page: dict[str, Any]) -> None:
    distances = {
        line[:20].strip(): float(line.split()[-1])
        for line in page["printed"].splitlines()
        if line.startswith(("unrolled", "ReTune", "implicit"))
    }
    unrolled = [distances[f"unrolled, {n}"] for n in (16, 48, 128, 512)]
    assert unrolled == sorted(unrolled, reverse=True)
    assert distances["ReTune, 64 times 8"] == unrolled[-1]
    assert distances["implicit"] < 0.1
    assert page["model"].solution.status == (Status.CONVERGED,)


def test_writes_a_figure_of_a_sensible_size(page: dict[str, Any]) -> None:
    height, width, _ = plt.imread(page["figure_path"]).shape
    assert 600 < height < 1000
    assert 1000 < width < 2000
