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
NAME = "unrolled_super_resolution"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the page after a short run, what it printed, and its figure."""
    figure = tmp_path_factory.mktemp(NAME) / "figure.png"
    script = str(GALLERY / f"{NAME}.py")
    arguments = ["--steps", "1", "--layers", "2", "--figure", str(figure)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *arguments])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names = runpy.run_path(script, run_name="__main__")
    plt.close("all")
    return names | {"figure_path": figure, "printed": printed.getvalue()}


def test_only_what_is_said_to_be_learned_is(page: dict[str, Any]) -> None:
    """And every layer of it."""
    for name, model in page["models"].items():
        steps = [float(value.detach()) for value in model.params_algo["stepsize"]]
        assert len(steps) == (2 if name.endswith("layers") else 1)
        learned = name.endswith(("shared", "layers"))
        for step in steps:
            assert (step != pytest.approx(page["STEP"], rel=1e-4)) == learned
        if name.startswith("network"):
            pairs = zip(
                model.prior.parameters(),
                page["models"]["network, plugged in"].prior.parameters(),
                strict=False,
            )
            assert any(not torch.equal(a, b) for a, b in pairs) == learned
    untied = page["models"]["network, layers"].prior
    first, second = (layer.denoiser.m_head.weight for layer in untied)
    assert not torch.equal(first, second)


def test_bicubic_interpolation_is_where_the_samples_are(page: dict[str, Any]) -> None:
    """A ramp stays where it is in the mean: half a pixel would be 5e-3."""
    ramp = torch.linspace(0, 1, 96).expand(1, 1, 96, 96)
    low = page["physics"].A(ramp)
    high = page["interpolate"](low, scale_factor=2, mode="bicubic")
    inner = slice(16, -16)
    assert (high - ramp)[..., inner, inner].mean().abs() < 1e-5


def test_nothing_is_trained_or_chosen_on_the_test(page: dict[str, Any]) -> None:
    """Crops of the test, cut to the size of the others, are none of them."""
    held_out = page["crops"]("test", 15, 40, 0).flatten(1)
    assert page["tested"].shape == (15, 1, 96, 96)
    trained = torch.stack([sample["x"] for sample in page["photos"]])
    for images in (trained, page["tried"]):
        assert torch.cdist(images.flatten(1), held_out).min() > 0.5


def test_prints_every_method(page: dict[str, Any]) -> None:
    assert set(page["results"]) == {"bicubic", *page["models"]}
    for name, scores in page["results"].items():
        truth = page["tested"]
        assert scores["PSNR"] == page["psnr"](page["images"][name], truth).mean()
        line = f"{name:20s} {scores['PSNR']:.2f}  {scores['SSIM']:.3f}  "
        assert line in page["printed"]


def test_shows_what_three_seeds_gave(page: dict[str, Any]) -> None:
    record = json.loads((GALLERY / "experiments" / f"{NAME}.json").read_text("utf-8"))
    assert len(record["seeds"]) >= 3
    assert record["command"] in page["printed"]
    assert set(record["results"]) == set(page["results"])
    assert page["printed"].count("+-") == 3 * len(record["results"])
    assert page["figure_path"].stat().st_size > 10_000
