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

import deepinv_equilibrium as deq

SCRIPT = Path(__file__).parents[2] / "gallery" / "jfb_deblurring.py"
RECORD = SCRIPT.parent / "experiments" / "jfb_deblurring.json"
BASELINES = ["direct inverse", "TV descent", "PnP", "PnP, DRUNet"]
LEARNED = ["DEQ", "JFB", "JFB, same time"]
METHODS = ["blurred", *BASELINES, *LEARNED]
SIZE = 24


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the page after a short run, what it printed, and its figure."""
    figure = tmp_path_factory.mktemp("jfb_deblurring") / "figure.png"
    arguments = ["--steps", "1", "--size", str(SIZE)]
    arguments += ["--crop", "12", "--descent-steps", "5", "--iterations", "5"]
    arguments += ["--figure", str(figure)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names = runpy.run_path(str(SCRIPT), run_name="__main__")
    plt.close("all")
    return names | {"figure_path": figure, "printed": printed.getvalue()}


@pytest.mark.parametrize(("blur", "variance"), [("5x5", 1), ("9x9", 5)])
def test_the_blurs_are_those_of_the_paper(
    page: dict[str, Any], blur: str, variance: int
) -> None:
    physics = page["blurring"](blur, SIZE, 0)
    spike = torch.zeros(1, 3, SIZE, SIZE)
    spike[..., SIZE // 2, SIZE // 2] = 1
    kernel = physics.A(spike)[0, 0]
    width = int(blur[0])
    assert int((kernel > 1e-5).sum()) == width**2
    axis = torch.arange(SIZE) - SIZE // 2
    logs = kernel[SIZE // 2, (axis.abs() <= width // 2)].log()
    # exp(-t^2 / (2 variance))
    assert logs.max() - logs[0] == pytest.approx((width // 2) ** 2 / 2 / variance, 1e-3)
    noise = physics(torch.zeros(40, 3, SIZE, SIZE)).std().item()
    assert noise == pytest.approx(0.01, rel=0.02)


def test_nothing_is_learned_or_chosen_on_what_is_tested(page: dict[str, Any]) -> None:
    datasets = deq.datasets.photos.SPLITS
    assert not set(datasets["test"]) & {*datasets["train"], *datasets["validation"]}
    assert page["truth"].equal(page["photos"]("test", img_size=SIZE))


def test_both_gradients_start_from_the_same_network(page: dict[str, Any]) -> None:
    start = page["network"].state_dict()
    for blur in ("5x5", "9x9"):
        models = page["models"][blur]
        assert models["PnP"].prior[0].denoiser is page["network"]
        assert type(models["DEQ"].equilibrium.adjoint) is deq.Implicit
        learned = [models[name].prior[0].denoiser.state_dict() for name in LEARNED]
        for weights in learned:
            assert weights.keys() == start.keys()
            assert any(not torch.equal(weights[key], start[key]) for key in start)
        for name in LEARNED[1:]:
            assert type(models[name].equilibrium.adjoint) is deq.JacobianFree


def test_the_trained_steps_are_certified_to_contract(page: dict[str, Any]) -> None:
    physics = page["blurring"]("9x9", SIZE, 0)
    for name in LEARNED[:2]:
        rate = deq.certify(page["models"]["9x9"][name], physics, (3, SIZE, SIZE)).rate
        assert rate.is_certified
        assert rate.value < 1
        assert f"{name}: rate {rate}" in page["printed"]


def test_baselines_are_the_best_on_the_validation_crops(page: dict[str, Any]) -> None:
    images = page["validation"]
    tried = [lambda y, physics, gap=gap: images + gap for gap in (0.2, -0.1, 0.3)]
    assert page["best"](tried, images, None) is tried[1]
    for blur in ("5x5", "9x9"):
        for name in BASELINES:
            assert page["models"][blur][name] in page["candidates"][name]


def test_the_numbers_are_those_of_the_images(page: dict[str, Any]) -> None:
    assert set(page["results"]) == set(METHODS)
    for blur, images in page["restored"].items():
        assert list(images) == METHODS
        for name, x in images.items():
            error = (x - page["truth"]).square().mean((1, 2, 3))
            value = -10 * error.log10().mean().item()
            row = page["results"][name]
            assert row[f"PSNR {blur}"] == pytest.approx(value, abs=1e-3)
            assert 0 < row[f"SSIM {blur}"] < 1
    printed = page["printed"].splitlines()
    line = next(line for line in printed if line.startswith("PnP, DRUNet  "))
    expected = page["results"]["PnP, DRUNet"]["PSNR 5x5"]
    assert float(line.split()[2]) == pytest.approx(expected, abs=6e-4)


def test_prints_the_record_of_the_longer_run(page: dict[str, Any]) -> None:
    record = json.loads(RECORD.read_text("utf-8"))
    assert len(record["seeds"]) >= 3
    assert set(record["results"]) == set(METHODS)
    assert record["command"] in page["printed"]
    values = record["results"]["DEQ"]["PSNR 5x5"]
    mean, spread = statistics.mean(values), statistics.stdev(values)
    assert f"{mean:9.3f} +- {spread:.3f}" in page["printed"]


def test_an_ordering_is_seen_where_every_seed_shows_it(page: dict[str, Any]) -> None:
    kept = page["kept"]
    for better, worse in (("DEQ", "JFB"), ("blurred", "DEQ")):
        gaps = [
            a - b
            for a, b in zip(
                kept[better]["PSNR 9x9"], kept[worse]["PSNR 9x9"], strict=True
            )
        ]
        verdict = "(seen)" if min(gaps) > 0 else "(not seen)"
        assert page["ordering"](better, worse, "9x9").endswith(verdict)


def test_writes_the_figure(page: dict[str, Any]) -> None:
    assert plt.imread(page["figure_path"]).shape[:2] == (528, 1980)
    assert f"{page['figure_path']}, " in page["printed"]
