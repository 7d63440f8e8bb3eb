"""The scripts that train ridge regularisers and measure denoisers."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deepinv_equilibrium.models import RidgeProxDenoiser

TRAINING = Path(__file__).parents[2] / "gallery" / "training"


def run_script(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> None:
    monkeypatch.syspath_prepend(TRAINING)  # as Python does for a script
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(TRAINING / name), run_name="__main__")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    generator = np.random.default_rng(0)
    for i in range(2):
        values = generator.integers(0, 255, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "images" / f"{i}.png")
    return tmp_path / "images"


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


def test_measure_denoisers_records_the_psnr_of_each_image(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "record.json"
    names = ["ridge, convex", "convex potential, averaged"]
    run_script(
        monkeypatch,
        "measure_denoisers.py",
        *(str(folder), "--output", str(output), "--levels", "25", "--names", *names),
    )
    record = json.loads(output.read_text("utf-8"))
    assert list(record) == names
    for entry in record.values():
        assert len(entry["psnr"]["25"]) == 2
        assert entry["mean"]["25"] == pytest.approx(
            np.mean(entry["psnr"]["25"]), abs=1e-3
        )
        assert entry["proved"].startswith("<= 1")
