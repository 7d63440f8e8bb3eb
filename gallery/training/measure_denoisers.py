r"""Measure denoisers on a folder of images, such as BSD68 or CBSD68.

White Gaussian noise is added to each whole image and is not clipped; its seed
is the number of the image. The script prints the mean PSNR in dB for each
denoiser and noise level, the seconds for an image and the number of weights,
and writes the PSNR of each image to a file::

    python gallery/training/measure_denoisers.py CBSD68 --in-channels 1 \
        --output grey.json
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from deepinv.models import Denoiser
from PIL import Image
from torch import Tensor
from tqdm import tqdm

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import (
    ConvexPotentialDenoiser,
    RidgeProxDenoiser,
    SmallDRUNet,
)

# Of the proximal operators. At 1e-4 the PSNR of a smooth photo was up to .06 dB off, at
# 1e-3 up to 1.3 dB.
RTOL = 1e-5


def denoisers(in_channels: int) -> dict[str, Denoiser]:
    """Return the bundled denoisers by name."""
    found: dict[str, Denoiser] = {
        "ridge, convex": RidgeProxDenoiser(in_channels),
        "ridge, convex, contraction .99": RidgeProxDenoiser(in_channels, 0.99),
        "convex potential, averaged": ConvexPotentialDenoiser(in_channels),
        "convex potential, firmly nonexpansive": ConvexPotentialDenoiser(
            in_channels, firmly_nonexpansive=True
        ),
    }
    if in_channels == 1:
        found["ridge, weakly convex"] = RidgeProxDenoiser(weak_convexity=1.0)
        found["SmallDRUNet"] = SmallDRUNet(pretrained="bundled")
    return found


def load(path: Path, in_channels: int) -> Tensor:
    """Return an image with values in [0, 1], of shape (1, C, H, W)."""
    image = Image.open(path).convert("L" if in_channels == 1 else "RGB")
    values = torch.from_numpy(np.array(image, dtype=np.float32) / 255)
    return values[None, None] if in_channels == 1 else values.movedim(-1, 0)[None]


@torch.no_grad()
def main() -> None:
    """Measure, print the means and write the values of each image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of images")
    parser.add_argument("--in-channels", type=int, default=1, choices=(1, 3))
    parser.add_argument("--levels", type=float, nargs="+", default=[5, 15, 25])
    parser.add_argument("--names", nargs="+", help="default: all denoisers")
    parser.add_argument("--images", type=int, help="the first ones; default: all")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    files = sorted(args.folder.iterdir())[: args.images]
    record = {}
    for name, denoiser in denoisers(args.in_channels).items():
        if args.names and name not in args.names:
            continue
        bound = "-"
        if not isinstance(denoiser, SmallDRUNet):
            bound = str(deq.lipschitz(denoiser))
        if isinstance(denoiser, RidgeProxDenoiser):
            denoiser.regulariser.rtol = RTOL
        values: dict[str, list[float]] = {f"{level:g}": [] for level in args.levels}
        start = time.process_time()
        for number, file in enumerate(tqdm(files, desc=name)):
            x = load(file, args.in_channels)
            generator = torch.Generator().manual_seed(number)
            noise = torch.randn(x.shape, generator=generator)
            for level in args.levels:
                denoised = denoiser(x + level / 255 * noise, level / 255)
                error = float((denoised - x).square().mean())
                values[f"{level:g}"].append(-10 * float(np.log10(error)))
        seconds = (time.process_time() - start) / len(files) / len(args.levels)
        weights = sum(p.numel() for p in denoiser.parameters())
        record[name] = {
            "psnr": {level: [round(v, 3) for v in values[level]] for level in values},
            "mean": {
                level: round(float(np.mean(values[level])), 3) for level in values
            },
            "seconds": round(seconds, 3),
            "weights": weights,
            "proved": bound,
        }
        means = "  ".join(f"{level}: {record[name]['mean'][level]}" for level in values)
        print(f"{name}: {means}; {seconds:.2f} s, {weights} weights, {bound}")
        args.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
