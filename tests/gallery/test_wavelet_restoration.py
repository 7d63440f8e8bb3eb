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

import deepinv_equilibrium as deq

SCRIPT = Path(__file__).parents[2] / "gallery" / "wavelet_restoration.py"
METHODS = ["(a)", "(b)", "control", "(c)"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the page after a short run, what it printed, and its figure."""
    figure = tmp_path_factory.mktemp("wavelet_restoration") / "figure.png"
    arguments = ["--steps", "1", "--steps-b", "1", "--steps-c", "1"]
    arguments += ["-K", "1", "-T", "2", "--crops", "2", "--figure", str(figure)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names = runpy.run_path(str(SCRIPT), run_name="__main__")
    plt.close("all")
    return names | {"figure_path": figure, "printed": printed.getvalue()}


def test_each_method_learns_what_it_says(page: dict[str, Any]) -> None:
    fixed = deq.models.SmallDRUNet().state_dict()
    for models in page["models"].values():
        assert list(models) == METHODS
        assert sum(p.numel() for p in models["(a)"].parameters()) == 13
        assert bool(models["(a)"].prior.log_band.any())
        numbers = {
            method: [
                models[method].params_algo[name][0].item()
                for name in ("stepsize", "g_param")
            ]
            for method in METHODS[1:]
        }
        assert numbers["(c)"] == numbers["(b)"] != numbers["control"]
        for method in METHODS[1:]:
            network = models[method].prior[0].denoiser.state_dict()
            same = all(torch.equal(network[key], fixed[key]) for key in fixed)
            assert same == (method != "(c)")
            assert numbers[method][0] <= 1.8 * (1 + 1e-5)


def test_nine_of_ten_pixels_are_missing_and_filled_with_the_mean(
    page: dict[str, Any],
) -> None:
    physics, y = page["problems"]["inpainting"], torch.full((2, 3, 64, 64), 0.25)
    assert physics.mask.mean().item() == pytest.approx(0.1, abs=0.02)
    filled = page["fill"](physics.A(y), physics)
    torch.testing.assert_close(filled, y, rtol=0, atol=1e-6)


def test_both_splits_are_measured_and_share_no_photo(page: dict[str, Any]) -> None:
    for problem, splits in page["restored"].items():
        for split, images in splits.items():
            for method, image in images.items():
                error = (image - page["truth"][split]).square().mean((1, 2, 3))
                expected = (-10 * error.log10()).mean().item()
                got = page["results"][f"{problem} {method}"][split]
                assert got == pytest.approx(expected, abs=1e-3)
                start = f"{problem} {method:9s}"
                line = next(
                    line for line in page["printed"].splitlines() if start in line
                )
                column = list(splits).index(split)
                value = float(line.removeprefix(start).split()[column])
                assert value == pytest.approx(got, abs=0.006)
    photos = [set(page["images"](s, 1, 0).names) for s in ("train", "test")]
    assert not photos[0] & photos[1]


def test_the_order_of_the_kept_run_is_stated(page: dict[str, Any]) -> None:
    kept = json.loads(page["record"].read_text("utf-8"))
    assert kept["command"] in page["printed"]
    assert kept["results"].keys() == page["results"].keys()
    for row in kept["results"].values():
        assert row.keys() == {"held-out", "training"}
        assert all(len(values) == len(kept["seeds"]) >= 3 for values in row.values())
    for problem in page["problems"]:
        for better, worse in (("(b)", "(a)"), ("(c)", "(b)"), ("(c)", "control")):
            for split in ("held-out", "training"):
                pairs = zip(
                    kept["results"][f"{problem} {better}"][split],
                    kept["results"][f"{problem} {worse}"][split],
                    strict=True,
                )
                seen = "seen" if all(a > b for a, b in pairs) else "not seen"
                start = f"{problem}, {split}: {better} above {worse}"
                line = next(
                    line for line in page["printed"].splitlines() if start in line
                )
                assert line.endswith(f"dB, {seen} with every seed")


def test_writes_the_figure(page: dict[str, Any]) -> None:
    assert plt.imread(page["figure_path"]).shape[:2] == (550, 1540)
    assert f"{page['figure_path']}, " in page["printed"]
