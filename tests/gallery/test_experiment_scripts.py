"""The scripts that train and measure the models of the long experiments."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

TRAINING = Path(__file__).parents[2] / "gallery" / "training"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    monkeypatch.syspath_prepend(TRAINING)
    return Script(monkeypatch)


class Script:
    """Imports scripts and runs them with arguments."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def load(self, name: str, **constants: object) -> ModuleType:
        module = importlib.import_module(name)
        for constant, value in constants.items():
            self.monkeypatch.setattr(module, constant, value)
        return module

    def run(self, module: ModuleType, *arguments: str) -> None:
        self.monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
        module.main()


def write_images(folder: Path, count: int, side: int) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(count):
        values = generator.integers(0, 255, (side, side, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{i:02d}.png")
    return folder


def test_knees_are_trained_and_measured_and_go_on(
    script: Script, tmp_path: Path
) -> None:
    script.load("training_loop", CHECKPOINT_EVERY=1)
    knees = script.load("knees", WINDOW=24)
    for setting in list(knees.SETTINGS)[:2]:
        script.monkeypatch.delitem(knees.SETTINGS, setting)
    one_step = {kind: (1, 1, rate) for kind, (_, _, rate) in knees.TRAININGS.items()}
    script.monkeypatch.setattr(knees, "TRAININGS", one_step)
    folder, weights = write_images(tmp_path / "knees", 6, 64), tmp_path / "weights"
    trained = [str(folder), "--weights", str(weights)]
    script.run(knees, *trained)
    files = {path.name: path for path in weights.glob("*.pt")}
    assert len(files) == 7 + len(knees.SETTINGS)
    first = torch.load(files["knees_DE-PROX.pt"], weights_only=True)
    files["knees_DE-PROX.pt"].unlink()
    script.run(knees, *trained)  # from the checkpoint
    again = torch.load(files["knees_DE-PROX.pt"], weights_only=True)
    assert all(torch.equal(w, again[name]) for name, w in first.items())

    measure = script.load(
        "measure_knees",
        KINDS=("zero-filled", "TV", "DE-PROX", "ridge"),
        ITERATED=("DU-PROX",),
        ATTACKED=("ridge",),
        SEEDS=(0, 1),
        TV_WEIGHTS=(1e-3,),
        TV_ITERATIONS=2,
        SEARCH_STEPS=1,
        COUNTS=(1, 2),
        SEARCHED=1,
        WINDOW=24,
    )
    record = tmp_path / "record.json"
    script.run(measure, *trained, "--record", str(record), "--images", "1")
    found = json.loads(record.read_text("utf-8"))
    for setting in knees.SETTINGS:
        zero = found["images"][setting]["zero-filled"]
        assert set(found["images"][setting]) == set(measure.KINDS)
        assert zero["0"][0]["PSNR"] != zero["1"][0]["PSNR"]  # another measurement
    assert len(record.with_suffix(".csv").read_text("utf-8").splitlines()) == 5


def test_restart_sweep_goes_on_with_the_next_training(
    script: Script, tmp_path: Path
) -> None:
    folder, record = write_images(tmp_path / "images", 2, 24), tmp_path / "record.json"
    steps = {"(a)": 1, "(b)": 1, "control": 1, "(c)": 1}
    sweep = script.load(
        "restart_sweep", SIZES=((2, 2),), STEPS=steps, BATCH_SIZE=1, PATCH_SIZE=16
    )
    arguments = [str(folder), str(folder), "--weights", str(tmp_path / "w")]
    arguments += ["--record", str(record), "--seeds", "0"]
    arguments += ["--images", "1", "--problems", "inpainting"]
    script.run(sweep, *arguments)
    first = json.loads(record.read_text("utf-8"))
    assert set(first["0"]) == {f"inpainting, 2, 2, {m}" for m in sweep.METHODS}
    stopped = first["0"].pop("inpainting, 2, 2, (c)")
    record.write_text(json.dumps(first), "utf-8")
    script.run(sweep, *arguments)
    again = json.loads(record.read_text("utf-8"))
    (entry,) = [again["0"][key] for key in again["0"] if key not in first["0"]]
    assert entry == stopped
    assert len(record.with_suffix(".csv").read_text("utf-8").splitlines()) == 5


def test_comparison_counts_the_work_of_methods_that_train_the_same_model(
    script: Script, tmp_path: Path
) -> None:
    folder, record = write_images(tmp_path / "images", 2, 64), tmp_path / "record.json"
    comparison = script.load("comparison", MARKS=1, BATCH_SIZE=1)
    arguments = [str(folder), str(folder), "--seeds", "0"]
    arguments += ["--record", str(record), "--problems", "deblurring"]
    names = ["deepinv, Jacobian-free", "unrolled", "ReTune"]
    script.run(comparison, *arguments, "--seconds", "0.01", "--methods", *names)
    found = json.loads(record.read_text("utf-8"))["deblurring"]["0"]
    assert list(found) == names
    starts = [curves["PSNR"][0] for curves in found.values()]
    assert max(starts) - min(starts) < 0.5  # the same weights, other iterations
    assert found["unrolled"]["evaluations"] == [0, 5]
    assert found["ReTune"]["evaluations"] == [0, 40]
    assert found["unrolled"]["products"] == found["ReTune"]["products"] == [0, 5]
    table = record.with_suffix(".csv").read_text("utf-8").splitlines()
    assert len(table) == 4
    assert record.with_suffix(".svg").stat().st_size > 1000
    ratio = found["ReTune"]["bytes"] / found["unrolled"]["bytes"]
    assert ratio == pytest.approx(1, abs=0.1)


def test_torsos_are_trained_and_measured_and_go_on(
    script: Script, tmp_path: Path
) -> None:
    script.load("training_loop", CHECKPOINT_EVERY=1)
    torsos = script.load(
        "torsos",
        SIZE=16,
        COUNTS={"training": 2, "validation": 1, "test": 2},
        SETTINGS={"torsos": {"8": (8, 0.01)}, "ellipses": {"6": (6, 0.01)}},
        TRAININGS=dict.fromkeys(("U-Net", "learned gradient", "ridge"), (1, 1e-3)),
        KINDS=("FBP", "TV", "learned gradient", "ridge"),
        SEEDS=(0, 1),
        TV_WEIGHTS=(1e-3,),
        TV_ITERATIONS=2,
    )
    folder, record = write_images(tmp_path / "slices", 6, 32), tmp_path / "record.json"
    arguments = [str(folder), "--weights", str(tmp_path / "w"), "--record", str(record)]
    script.run(torsos, *arguments)
    first = json.loads(record.read_text("utf-8"))
    for name, count in (("torsos, 8", 2), ("ellipses, 6", 2), ("Shepp-Logan, 6", 1)):
        assert set(first[name]) == set(torsos.KINDS)
        assert all(len(images) == count for images in first[name]["FBP"].values())
    del first["torsos, 8"]["ridge"]
    record.write_text(json.dumps(first), "utf-8")
    script.run(torsos, *arguments)
    again = json.loads(record.read_text("utf-8"))
    assert set(again["torsos, 8"]) == set(torsos.KINDS)
    assert len(record.with_suffix(".csv").read_text("utf-8").splitlines()) == 5


def test_jacobian_free_curves_go_on_as_if_they_had_not_stopped(
    script: Script, tmp_path: Path
) -> None:
    folder, record = write_images(tmp_path / "images", 2, 24), tmp_path / "record.json"
    curves = script.load(
        "jacobian_free",
        BLURS={"5x5": (5, 1.0)},
        CROP=16,
        TEST_SIZE=16,
        EPOCHS=2,
        EPOCH=1,
        BATCH_SIZE=2,
        PRETRAINING=1,
    )
    arguments = [str(folder), str(folder), "--weights", str(tmp_path / "w")]
    arguments += ["--record", str(record), "--seeds", "0"]
    script.run(curves, *arguments)
    first = json.loads(record.read_text("utf-8"))["5x5"]["0"]
    start = [first[adjoint]["PSNR"][0] for adjoint in curves.ADJOINTS]
    assert start[0] == start[1]
    assert first["implicit"]["cosine"][0] == first["Jacobian-free"]["cosine"][0]
    assert all(len(run["loss"]) == 2 for run in first.values())

    class StopError(Exception):
        """An interruption."""

    def stop(*_: object) -> None:
        raise StopError

    for checkpoint in (tmp_path / "w").glob("5x5*"):
        checkpoint.unlink()
    record.unlink()
    script.monkeypatch.setattr(curves, "cosine", stop)
    with pytest.raises(StopError):
        script.run(curves, *arguments)
    script.monkeypatch.setattr(curves, "cosine", lambda *_: 1.0)
    write = curves.measurement_record.write

    def write_and_stop(path: Path, found: dict[str, Any]) -> None:
        write(path, found)
        if len(found["5x5"]["0"]["implicit"]["PSNR"]) == 2:
            script.monkeypatch.setattr(curves, "test_psnr", stop)

    script.monkeypatch.setattr(curves.measurement_record, "write", write_and_stop)
    psnr = curves.test_psnr
    with pytest.raises(StopError):  # in the second epoch, after its training
        script.run(curves, *arguments)
    script.monkeypatch.setattr(curves.measurement_record, "write", write)
    script.monkeypatch.setattr(curves, "test_psnr", psnr)
    script.run(curves, *arguments)
    again = json.loads(record.read_text("utf-8"))["5x5"]["0"]
    for adjoint, run in first.items():
        assert again[adjoint]["loss"] == run["loss"]
        assert again[adjoint]["PSNR"] == run["PSNR"]
    assert len(record.with_suffix(".csv").read_text("utf-8").splitlines()) == 3
