"""The scripts that train denoisers and deblurring models, and measure."""

from __future__ import annotations

import csv
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deepinv_equilibrium.models import (
    ConvexPotentialDenoiser,
    RidgeProxDenoiser,
    RidgeRegulariser,
    SmallDRUNet,
)

TRAINING = Path(__file__).parents[2] / "gallery" / "training"


def run_script(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> None:
    monkeypatch.syspath_prepend(TRAINING)  # as Python does for a script
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(TRAINING / name), run_name="__main__")


def write_images(folder: Path, height: int, width: int) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(2):
        values = generator.integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", 20, 24)


def test_convex_potential_training_goes_on_as_if_it_had_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, weights = write_images(tmp_path / "images", 40, 44), []
    for name, stops in (("whole", [[]]), ("resumed", [["--stop", "1"], []])):
        output = tmp_path / f"{name}.pt"
        for stop in stops:
            run_script(
                monkeypatch,
                "convex_potential_denoiser.py",
                *(str(folder), "--output", str(output), "--steps", "2", *stop),
                *("--in-channels", "3", "--firmly-nonexpansive"),
            )
        weights.append(torch.load(output, weights_only=True))
    assert all(torch.equal(a, weights[1][key]) for key, a in weights[0].items())
    denoiser = ConvexPotentialDenoiser(3, True, pretrained=tmp_path / "whole.pt")
    assert denoiser.lipschitz_bound().value == pytest.approx(1)


def test_small_drunet_training_goes_on_from_the_checkpoint_of_each_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, output = write_images(tmp_path / "images", 64, 68), tmp_path / "drunet.pt"
    settings = [str(folder), "--output", str(output), "--steps", "1"]
    settings += ["--penalised-steps", "1"]
    run_script(monkeypatch, "small_drunet.py", *settings)
    first = torch.load(output, weights_only=True)
    for part in ("", ".penalised", ".denoiser"):
        # Without the later files, the later parts are trained again, to the same end.
        output.with_suffix(f"{part}.checkpoint" if part else ".pt").unlink()
        run_script(monkeypatch, "small_drunet.py", *settings)
        again = torch.load(output, weights_only=True)
        assert all(torch.equal(w, again[name]) for name, w in first.items())
    assert first["m_head.weight"].dtype == torch.float16
    SmallDRUNet(3, pretrained=output)


@pytest.mark.parametrize("weak_convexity", ["0", "1"])
def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(
    weak_convexity: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = ["--weak-convexity", weak_convexity, "--batch-size", "2"]
    settings += ["--patch-size", "6", "--steps", "3", "--generators", "4"]
    weights = []
    for name, stops in (("whole", ()), ("resumed", (2,))):
        output = tmp_path / f"{name}.pt"
        for steps in (*stops, None):
            extra = [] if steps is None else ["--stop", str(steps)]
            run_script(
                monkeypatch,
                "ridge_regulariser.py",
                *(str(folder), "--output", str(output), *settings, *extra),
            )
        weights.append(torch.load(output, weights_only=True))
    assert all(torch.equal(a, weights[1][key]) for key, a in weights[0].items())
    denoiser = RidgeProxDenoiser(
        pretrained=tmp_path / "whole.pt",
        weak_convexity=float(weak_convexity),
        generators=4,
    )
    assert torch.equal(denoiser.regulariser.spline.rising, weights[0]["spline.rising"])


def test_training_splits_filters_and_replaces_small_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(TRAINING)
    script = runpy.run_path(str(TRAINING / "ridge_regulariser.py"))
    before = RidgeRegulariser(1, None, generators=6)
    last = "filters.convolutions.2"
    with torch.no_grad():
        before.state_dict(keep_vars=True)[last][4:] *= 1e-4
    weights = script["with_generators"](before.state_dict(), 1, 7)
    after = RidgeRegulariser(1, None, generators=7)
    after.load_state_dict(weights)
    # Three of the four filters that count are split.
    norms = after.filters()[:7].flatten(1).norm(dim=1)
    assert norms.min() > 0.1 * norms.max()
    assert len(weights[last].unique(dim=0)) == 7
    x = torch.rand(1, 1, 20, 20)
    old, new = before.grad(x, 0.1), after.grad(x, 0.1)
    assert 0 < (new - old).norm() < 0.05 * old.norm()


def test_measure_denoisers_goes_on_and_records_the_psnr_of_each_image(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "record.json"
    names = ["ridge, convex", "convex potential, averaged"]
    settings = [str(folder), "--record", str(record), "--levels", "25", "--names"]
    run_script(monkeypatch, "measure_denoisers.py", *settings, *names, "--images", "1")
    first = json.loads(record.read_text("utf-8"))
    run_script(monkeypatch, "measure_denoisers.py", *settings, *names)
    found = json.loads(record.read_text("utf-8"))
    contracted = "ridge, convex, contraction 0.99"
    assert list(found) == [
        names[0],
        contracted,
        names[1],
        f"{names[1]}, contraction 0.99",
    ]
    for name, entry in found.items():
        assert len(entry["psnr"]["25"]) == len(entry["seconds"]["25"]) == 2
        assert entry["psnr"]["25"][:1] == first[name]["psnr"]["25"]
    assert found[names[0]]["proved"] == "firmly nonexpansive"
    assert found[contracted]["proved"] == "Lipschitz constant 0.99"
    # One solve serves both contractions.
    image = Image.open(sorted(folder.iterdir())[1]).convert("L")
    x = torch.from_numpy(np.array(image, dtype=np.float32) / 255)[None, None]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        denoised = RidgeProxDenoiser(contraction=0.99)(x + 25 / 255 * noise, 25 / 255)
    psnr = -10 * float((denoised - x).square().mean().log10())
    assert found[contracted]["psnr"]["25"][1] == pytest.approx(psnr, abs=2e-3)
    table = record.with_suffix(".csv").read_text("utf-8").splitlines()
    mean = np.mean(found[contracted]["psnr"]["25"])
    assert any(contracted in row and f"{mean:.2f}" in row for row in table)


@pytest.mark.parametrize(("colours", "channels"), [("grey", 1), ("colour", 3)])
def test_shown_table_of_denoisers_follows_from_the_record_of_all_images(
    colours: str, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(TRAINING)
    script = runpy.run_path(str(TRAINING / "measure_denoisers.py"))
    path = TRAINING / "results" / f"denoisers_{colours}.json"
    record = json.loads(path.read_text("utf-8"))
    assert all(len(v) == 68 for e in record.values() for v in e["psnr"].values())
    with path.with_suffix(".csv").open(encoding="utf-8") as file:
        assert list(csv.reader(file)) == script["table"](record, channels)


def test_shown_table_of_deblurring_follows_from_the_record_of_all_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(TRAINING)
    script = runpy.run_path(str(TRAINING / "deblurring.py"))
    path = TRAINING / "results" / "deblurring.json"
    record = json.loads(path.read_text("utf-8"))
    assert all(len(e["images"]) == 68 for m in record.values() for e in m.values())
    with path.with_suffix(".csv").open(encoding="utf-8") as file:
        assert list(csv.reader(file)) == script["table"](record)
    for models in record.values():
        certified, reference = (
            np.mean([image["PSNR"] for image in models[kind]["images"]])
            for kind in ("ridge, convex", script["REFERENCE"])
        )
        assert models["ridge, convex"]["proved"] == "contracts"
        assert certified > reference - 0.3


def test_deblurring_trains_once_and_goes_on_with_the_next_image(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, weights = tmp_path / "record.json", tmp_path / "weights"
    settings = [str(folder), str(folder), "--record", str(record), "--steps", "1"]
    settings += ["--patch-size", "12", "--weights", str(weights)]
    settings += ["--blurs", "square", "--noise-levels", "0.05", "--kinds"]
    kinds = ["ridge, convex", "SmallDRUNet, plug-and-play"]
    run_script(monkeypatch, "deblurring.py", *settings, *kinds, "--images", "1")
    first = json.loads(record.read_text("utf-8"))["square, 0.05"]
    written = {path: path.stat().st_mtime_ns for path in weights.iterdir()}
    run_script(monkeypatch, "deblurring.py", *settings, *kinds)
    assert {path: path.stat().st_mtime_ns for path in weights.iterdir()} == written
    found = json.loads(record.read_text("utf-8"))["square, 0.05"]
    assert list(found) == kinds
    for kind in kinds:
        assert found[kind]["images"][:1] == first[kind]["images"]
        assert len(found[kind]["images"]) == 2
        assert all(image["residual"] <= 1e-4 for image in found[kind]["images"])
    assert [found[kind]["proved"] for kind in kinds] == ["contracts", "unproved"]
    assert float(found[kinds[0]]["rate"]) < 1
    assert len(record.with_suffix(".csv").read_text("utf-8").splitlines()) == 3
