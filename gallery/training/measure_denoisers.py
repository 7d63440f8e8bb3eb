r"""Measure denoisers on a folder of images, such as BSD68 or CBSD68.

White Gaussian noise is added to each whole image and is not clipped; its seed is the
number of the image. The PSNR in dB and the seconds for each denoiser, noise level and
image are written to a file after each image, and the same command goes on from there.
The mean over the images, the number of weights and what is proved of each denoiser are
printed, and written to a table::

    python gallery/training/measure_denoisers.py BSD68 \
        --record gallery/training/results/denoisers_grey.json
    python gallery/training/measure_denoisers.py CBSD68 --in-channels 3 \
        --levels 15 25 40 --record gallery/training/results/denoisers_colour.json

The proximal operators are solved to a relative residual of 1e-5. At 1e-4 the PSNR of a
smooth photo was up to .06 dB off, at 1e-3 up to 1.3 dB. A denoiser that contracts
towards mid-grey is computed from the one that does not: D = 1/2 + c (P - 1/2).
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from pathlib import Path
from typing import Any

import measurement_record
import torch
from deepinv.models import Denoiser
from image_folder import load
from torch import Tensor
from tqdm import tqdm

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import (
    ConvexPotentialDenoiser,
    RidgeProxDenoiser,
    SmallDRUNet,
)

RTOL = 1e-5
CONTRACTION = 0.99
# Mean PSNR in dB that others report for the same images, and what they prove or claim.
PUBLISHED = {
    1: {
        "CRR-NN": (
            {"5": 36.96, "15": 30.55, "25": 28.10},
            "firmly nonexpansive, up to the estimate of a norm",
        ),
        "WCRR-NN": (
            {"5": 37.65, "15": 31.21, "25": 28.68},
            "proximal operator of a weakly convex function, up to the estimate of a "
            "norm",
        ),
    },
    3: {
        "DRUNet": ({"15": 34.14, "25": 31.54, "40": 29.33}, "nothing"),
        "MMO": ({"15": 32.21, "25": 29.99, "40": 27.87}, "nothing; penalised"),
        "DRUNet, penalty for expansion": (
            {"15": 32.54, "25": 30.12, "40": 28.00},
            "nothing; penalised",
        ),
        "DRUNet, penalty for pseudo-contraction": (
            {"15": 33.67, "25": 31.36, "40": 28.96},
            "nothing; penalised",
        ),
    },
}
Record = dict[str, dict[str, Any]]
"""For each denoiser, what is proved of it, its number of weights, and for each noise
level the PSNR and the seconds of each image."""


def denoisers(in_channels: int) -> dict[str, Denoiser]:
    """Return the bundled denoisers by name."""
    return {
        "ridge, convex": RidgeProxDenoiser(in_channels),
        "ridge, weakly convex": RidgeProxDenoiser(in_channels, weak_convexity=1.0),
        "convex potential, averaged": ConvexPotentialDenoiser(in_channels),
        "convex potential, firmly nonexpansive": ConvexPotentialDenoiser(
            in_channels, firmly_nonexpansive=True
        ),
        "SmallDRUNet": SmallDRUNet(in_channels),
    }


def proved(denoiser: Denoiser) -> str:
    """Return what is proved of the exact map that a denoiser computes."""
    if isinstance(denoiser, SmallDRUNet):
        return "nothing"
    if denoiser.contraction < 1:
        return f"Lipschitz constant {deq.lipschitz(denoiser).value:.4g}"
    if denoiser.is_firmly_nonexpansive:
        return "firmly nonexpansive"
    if isinstance(denoiser, RidgeProxDenoiser):
        return "proximal operator of a weakly convex function"
    return "nonexpansive"


def variants(name: str, denoiser: Denoiser) -> list[tuple[str, float]]:
    """Return the names and contractions of the denoisers that one solve computes."""
    found = [(name, 1.0)]
    if hasattr(denoiser, "contraction") and "weakly" not in name:
        found.append((f"{name}, contraction {CONTRACTION:g}", CONTRACTION))
    return found


def entries(name: str, denoiser: Denoiser, levels: list[str]) -> Record:
    """Return the empty records of a denoiser."""
    weights = sum(p.numel() for p in denoiser.parameters())
    made: Record = {}
    for variant, contraction in variants(name, denoiser):
        if contraction < 1:
            denoiser.contraction = contraction
        made[variant] = {
            "proved": proved(denoiser),
            "weights": weights,
            "psnr": {level: [] for level in levels},
            "seconds": {level: [] for level in levels},
        }
    if hasattr(denoiser, "contraction"):
        denoiser.contraction = 1.0
    return made


@torch.no_grad()
def measure(
    name: str, denoiser: Denoiser, x: Tensor, seed: int, record: Record
) -> None:
    """Append the PSNR and the seconds of an image to the records of a denoiser."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    for level, values in record[name]["psnr"].items():
        if len(values) > seed:
            continue
        sigma = float(level) / 255
        start = time.process_time()
        denoised = denoiser(x + sigma * noise, sigma)
        seconds = round(time.process_time() - start, 2)
        for variant, contraction in variants(name, denoiser):
            contracted = 0.5 + contraction * (denoised - 0.5)
            error = float((contracted - x).square().mean())
            entry = record[variant]
            entry["psnr"][level].append(round(-10 * math.log10(error), 3))
            entry["seconds"][level].append(seconds)


def table(record: Record, in_channels: int) -> list[list[str]]:
    """Return the rows of the table: measured ones, and published ones."""
    levels = list(next(iter(record.values()))["psnr"])
    rows = [["denoiser", *levels, "proved", "weights", "seconds"]]
    for name, entry in record.items():
        psnr = [statistics.mean(values) for values in entry["psnr"].values()]
        seconds = statistics.mean(v for part in entry["seconds"].values() for v in part)
        row = [name, *(f"{value:.2f}" for value in psnr), entry["proved"]]
        rows.append([*row, f"{entry['weights']:,}", f"{seconds:.1f}"])
    for name, (published, claim) in PUBLISHED[in_channels].items():
        values = [f"{published[level]:.2f}" for level in levels if level in published]
        if len(values) == len(levels):
            rows.append([f"{name} (published)", *values, claim, "", ""])
    return rows


def main() -> None:
    """Measure, and write the record and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of images")
    parser.add_argument("--in-channels", type=int, default=1, choices=(1, 3))
    parser.add_argument("--levels", nargs="+", default=["5", "15", "25"])
    parser.add_argument("--names", nargs="+", help="default: all denoisers")
    parser.add_argument("--images", type=int, help="the first ones; default: all")
    parser.add_argument("--record", type=Path, required=True)
    args = parser.parse_args()

    files = sorted(args.folder.iterdir())[: args.images]
    record: Record = measurement_record.read(args.record)
    for name, denoiser in denoisers(args.in_channels).items():
        if args.names and name not in args.names:
            continue
        if name not in record:
            record |= entries(name, denoiser, args.levels)
        if isinstance(denoiser, RidgeProxDenoiser):
            denoiser.regulariser.rtol = RTOL
        for number, file in enumerate(tqdm(files, desc=name)):
            x = load(file, args.in_channels)[None]
            measure(name, denoiser, x, number, record)
            measurement_record.write(args.record, record)
    measurement_record.write_table(args.record, table(record, args.in_channels))


if __name__ == "__main__":
    main()
