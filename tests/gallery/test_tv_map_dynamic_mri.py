from __future__ import annotations

import contextlib
import copy
import io
import runpy
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "gallery" / "tv_map_dynamic_mri.py"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the page after a short run, what it printed, and its figure."""
    figure = tmp_path_factory.mktemp("tv_map_dynamic_mri") / "figure.png"
    arguments = [
        "--first-steps",
        "2",
        "--steps",
        "1",
        "--phantoms",
        "2",
        "--iterations",
        "4",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *arguments, "--figure", str(figure)])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names = runpy.run_path(str(SCRIPT), run_name="__main__")
    plt.close("all")
    return names | {"figure_path": figure, "printed": printed.getvalue()}


def test_the_map_first_learns_where_phantoms_change(page: dict[str, Any]) -> None:
    model = page["build"](copy.deepcopy(page["unet"]))
    page["find_edges"](model)
    for name, weight in model.tv_map.named_parameters():
        assert not torch.equal(weight, page["unet"].get_parameter(name))


def test_weights_are_learned_end_to_end_and_nothing_else(page: dict[str, Any]) -> None:
    for name, lr in (("scalar", 3e-2), ("pair", 3e-2), ("map", 4e-4)):
        model = page["build"](copy.deepcopy(page["models"][name].tv_map))
        page["train"](model, lr, 1)
        for key, weight in model.named_parameters():
            same = torch.equal(weight, page["models"][name].get_parameter(key))
            assert same == key.startswith("step_sizes.")


def test_prints_every_phantom_of_every_model(page: dict[str, Any]) -> None:
    rows = [
        (name, [float(value) for value in values])
        for name, *values in map(str.split, page["printed"].splitlines())
        if name in page["results"] and len(values) == 3
    ]
    assert [name for name, _ in rows] == 2 * list(page["results"])
    truth = page["truth"].norm(dim=1)
    for name, image in page["images"].items():
        error = (image.norm(dim=1) - truth).square().mean((1, 2, 3))
        psnr = (-10 * error.log10()).tolist()
        assert dict(rows[:5])[name] == pytest.approx([*psnr, sum(psnr) / 2], abs=6e-3)


def test_the_oracle_is_the_best_of_the_grid(page: dict[str, Any]) -> None:
    for metric in (0, 1):
        for phantom in (0, 1):
            best = page["results"]["oracle"][metric, phantom]
            tried = [scores[metric, phantom] for scores in page["tried"]]
            assert len(tried) == 12
            assert best == max(tried) > min(tried)


def test_writes_a_figure_of_a_sensible_size(page: dict[str, Any]) -> None:
    height, width, _ = plt.imread(page["figure_path"]).shape
    assert 300 < height < 700
    assert 1000 < width < 2000
