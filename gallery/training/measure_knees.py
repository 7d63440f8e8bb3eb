r"""Measure reconstructions of knees with the weights of ``knees.py``.

The test slices of the folder are measured in each setting with three seeds, each of
which draws other columns and noise for each slice. PSNR in dB and SSIM are those of the
magnitudes, whose largest value is 1. The record has every slice; means over the slices,
with the standard deviation over the seeds, are printed and written to a table. The
weight of total variation is the best of seven on the validation slices.

Two more parts of the record are for the first two slices: the PSNR after 1 to 128
plain iterations of the unrolled network and of the equilibria, and the largest
ratio of the change of the image to that of the measurement, which a search by gradient
ascent finds for each model. The same command goes on where it was stopped::

    python gallery/training/measure_knees.py KNEES --weights gallery/training/weights \
        --record gallery/training/results/knees.json
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import deepinv as dinv
import measurement_record
import torch
from deepinv.physics import Physics
from knees import NOISE_LEVEL, SETTINGS, build, scan, split, with_phase
from torch import Tensor
from tqdm import tqdm

import deepinv_equilibrium as deq
from deepinv_equilibrium.diagnostics import worst_case

RESTARTED = "DE-PROX, restarted"
KINDS = (
    *("zero-filled", "TV", "PnP", "U-Net", "DU-PROX", "DE-PROX", RESTARTED),
    *("DE-GRAD", "ridge"),
)
ITERATED = ("DU-PROX", "DE-PROX", RESTARTED, "DE-GRAD", "ridge")
ATTACKED = ("U-Net", "DU-PROX", "DE-PROX", "DE-GRAD", "ridge")
SEEDS = (0, 1, 2)
TV_WEIGHTS = tuple(5e-4 * 2**i for i in range(7))
TV_ITERATIONS = 300
SEARCH_STEPS = 15
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128)
SEARCHED = 2  # images of the parts that are expensive
WINDOW = 160  # pixels along each side, of the search for perturbations
Record = dict[str, Any]


def magnitude(x: Tensor) -> Tensor:
    """Return the magnitude of an image of two channels."""
    return torch.linalg.vector_norm(x, dim=1, keepdim=True)


def file_name(kind: str, setting: str) -> str:
    """Return the name of the file of weights."""
    name = f"knees_{kind}_{setting}" if kind == "PnP" else f"knees_{kind}"
    return f"{name}.pt".replace(", ", "_").replace(" ", "_")


def total_variation(weight: float) -> Any:
    """Return the reconstruction by total variation."""
    weights = deq.models.ConstantTVMap((0, 0), weight)
    return deq.models.TVMapReconstructor(weights, max_iter=TV_ITERATIONS)


def load_model(
    kind: str, setting: str, weights: Path, configuration: Any = None
) -> Any:
    """Return a model with its weights."""
    if kind == "zero-filled":
        return dinv.models.ArtifactRemoval(lambda x, sigma: x, mode="adjoint")
    if configuration is None and kind not in (
        *("DU-PROX", "U-Net"),
        RESTARTED,
    ):
        anderson = deq.Anderson(rtol=1e-4, max_iter=60)
        if kind == "ridge":
            anderson = deq.Anderson(rtol=1e-5, max_iter=300)
        implicit = deq.Implicit(deq.GMRES(rtol=1e-2, max_iter=40))
        configuration = deq.Equilibrium(anderson, implicit, on_failure="ignore")
    model = build(kind, configuration)
    saved = torch.load(weights / file_name(kind, setting), weights_only=True)
    model.load_state_dict(saved)
    return model.eval()


def case(
    images: list[Tensor], number: int, setting: str, seed: int
) -> tuple[Tensor, Physics, Tensor]:
    """Return an image, the physics and the measurement."""
    phase = torch.Generator().manual_seed(1000 + number)
    x = with_phase(images[number], phase)[None]
    physics = scan(setting, (x.shape[-2], x.shape[-1]), 1000 * (seed + 1) + number)
    return x, physics, physics(x)


def quality(reconstructed: Tensor, x: Tensor) -> dict[str, float]:
    """Return PSNR and SSIM of the magnitude."""
    pair = magnitude(reconstructed), magnitude(x)
    psnr, ssim = dinv.metric.PSNR(max_pixel=1)(*pair), dinv.metric.SSIM()(*pair)
    return {"PSNR": round(float(psnr), 3), "SSIM": round(float(ssim), 4)}


@torch.no_grad()
def measure(
    model: Any, images: list[Tensor], number: int, setting: str, seed: int
) -> dict[str, float]:
    """Reconstruct an image and return its figures."""
    x, physics, y = case(images, number, setting, seed)
    start = time.process_time()
    reconstructed = model(y, physics)
    seconds = round(time.process_time() - start, 2)
    steps = 0
    if isinstance(model, deq.optim.PGD | deq.optim.GD):
        steps = int(model.solution.iterations.max())
    return quality(reconstructed, x) | {"seconds": seconds, "steps": steps}


def chosen_weight(images: list[Tensor], setting: str) -> float:
    """Return the best weight of total variation on validation images."""

    def score(weight: float) -> float:
        model = total_variation(weight)
        return statistics.mean(
            measure(model, images, number, setting, 7)["PSNR"]
            for number in range(len(images))
        )

    return max(TV_WEIGHTS, key=score)


@torch.no_grad()
def over_iterations(
    kind: str, images: list[Tensor], setting: str, weights: Path
) -> list[float]:
    """Return the mean PSNR after numbers of plain iterations, on the first images."""
    curve = []
    for count in COUNTS:
        plain = deq.Equilibrium(
            deq.Picard(max_iter=count, rtol=0.0), on_failure="ignore"
        )
        model = load_model(kind, setting, weights, plain)
        numbers = range(len(images))
        found = [measure(model, images, i, setting, 0)["PSNR"] for i in numbers]
        curve.append(round(statistics.mean(found), 3))
    return curve


def gains(model: Any, images: list[Tensor], setting: str) -> list[float]:
    """Return the largest gains that a search finds, on windows of the first images."""
    top, left = ((int(side) - WINDOW) // 2 for side in images[0].shape[-2:])
    cut = [image[:, top : top + WINDOW, left : left + WINDOW] for image in images]
    found = []
    for number in range(len(cut)):
        x, physics, y = case(cut, number, setting, 0)
        norm = 0.1 * NOISE_LEVEL * float(physics.A(x).numel() ** 0.5)
        search = worst_case(model, y, physics, norm, steps=SEARCH_STEPS)
        found.append(float(search.gain.max()))
    return [round(value, 3) for value in found]


def table(record: Record) -> list[list[str]]:
    """Return the rows of the table."""
    rows = [["model", *(f"{s}: {m}" for s in SETTINGS for m in ("PSNR", "SSIM"))]]
    rows[0] += ["seconds", "gain"]
    measured = next(iter(record["images"].values()))
    for kind in (kind for kind in KINDS if kind in measured):
        row, seconds = [kind], []
        for setting in SETTINGS:
            seeds = record["images"][setting][kind]
            seconds += [
                image["seconds"] for images in seeds.values() for image in images
            ]
            for metric, digits in (("PSNR", 2), ("SSIM", 3)):
                means = [
                    statistics.mean(i[metric] for i in images)
                    for images in seeds.values()
                ]
                row.append(measurement_record.mean_and_spread(means, digits))
        gain = record["gains"].get(kind)
        row += [f"{statistics.mean(seconds):.1f}", f"{max(gain):.2f}" if gain else ""]
        rows.append(row)
    return rows


def main() -> None:
    """Measure, and write the record and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of slices")
    parser.add_argument("--weights", type=Path, required=True, help="a folder")
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--images", type=int, help="the first ones; default: all")
    args = parser.parse_args()

    parts = split(args.folder)
    test = parts["test"][: args.images]
    record: Record = measurement_record.read(args.record)
    for name in ("images", "TV", "iterations", "gains"):
        record.setdefault(name, {})
    for setting in SETTINGS:
        if "TV" in args.kinds and setting not in record["TV"]:
            record["TV"][setting] = chosen_weight(
                parts["validation"][:SEARCHED], setting
            )
        for kind in args.kinds:
            model = (
                total_variation(record["TV"][setting])
                if kind == "TV"
                else load_model(kind, setting, args.weights)
            )
            entry = record["images"].setdefault(setting, {}).setdefault(kind, {})
            for seed in SEEDS:
                found = entry.setdefault(str(seed), [])
                for number in tqdm(range(len(found), len(test)), f"{setting} {kind}"):
                    found.append(measure(model, test, number, setting, seed))
                    measurement_record.write(args.record, record)
    setting = next(iter(SETTINGS))
    for kind in ITERATED:
        if kind in args.kinds and kind not in record["iterations"]:
            record["iterations"][kind] = over_iterations(
                kind, test[:SEARCHED], setting, args.weights
            )
            measurement_record.write(args.record, record)
    for kind in ATTACKED:
        if kind in args.kinds and kind not in record["gains"]:
            model = load_model(kind, setting, args.weights)
            record["gains"][kind] = gains(model, test[:SEARCHED], setting)
            measurement_record.write(args.record, record)
    measurement_record.write_table(args.record, table(record))


if __name__ == "__main__":
    main()
