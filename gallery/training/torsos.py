r"""Train reconstructions of computed tomography on torsos and on ellipses, and measure.

Slices of torsos, averaged to 128 x 128 pixels, are scanned from 143, 50 or 15 angles;
random ellipses from 30 angles, and the Shepp-Logan phantom, which is unlike them, is a
second test for these. White Gaussian noise has a standard deviation of 5 % of the mean
of the measurements of the training images. There are

- *FBP*: filtered back-projection;
- *TV*: total variation, with the best of seven weights for validation images;
- *TV map*: total variation with weights that a network computes from the data;
- *U-Net*: post-processing of FBP;
- *learned gradient* and *learned primal-dual*: ten steps with networks;
- *ridge*: the minimiser of f + kappa / 2 |x|^2 + lambda R with the bundled convex
  ridge regulariser, which is proved to be unique and to be reached at a rate. Its noise
  level, lambda and weights are trained with the implicit gradient.

One network of each kind is trained for all angles of the torsos, and one for the
ellipses, one image in a step, with the negative signal-to-noise ratio as the loss.
Every fifth file of the folder is for the test and every tenth for validation. The means
over the test images of three seeds of the noise are printed and written to a table.
Checkpoints are written in the training and the record after each image; the same
command goes on from them::

    python gallery/training/torsos.py TORSOS --weights torsos \
        --record gallery/training/results/torsos.json

The folder was the slices that the authors of the convex ridge regulariser took from the
volumes of the low-dose CT challenge.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import deepinv as dinv
import measurement_record
import torch
import training_loop
from deepinv.physics import GaussianNoise, Physics
from deepinv.utils.phantoms import SheppLoganDataset
from image_folder import split_in_three
from torch import Tensor
from torch.nn.functional import avg_pool2d
from tqdm import tqdm

import deepinv_equilibrium as deq

SIZE = 128
# Angles and the standard deviation of the noise.
SETTINGS = {
    "torsos": {
        "143 angles": (143, 0.011),
        "50 angles": (50, 0.018),
        "15 angles": (15, 0.034),
    },
    "ellipses": {"30 angles": (30, 0.0045)},
}
COUNTS = {"training": 2000, "validation": 8, "test": 20}  # of ellipses
KAPPA = 1e-3
# Steps and learning rates.
TRAININGS = {
    "TV map": (200, 3e-3),
    "U-Net": (4000, 1e-3),
    "learned gradient": (3000, 2e-3),
    "learned primal-dual": (3000, 1e-3),
    "ridge": (150, 2e-3),
}
TV_WEIGHTS = tuple(2e-4 * 2**i for i in range(7))
TV_ITERATIONS = 300
KINDS = ("FBP", "TV", *TRAININGS)
SEEDS = (0, 1, 2)
Record = dict[str, Any]
"""For each setting, kind of model and seed, the figures of each image."""


def torsos(folder: Path) -> dict[str, list[Tensor]]:
    """Return slices for training, validation and test, of shape (1, 1, H, W)."""
    across = torch.linspace(-1, 1, SIZE)
    inside = (across[:, None] ** 2 + across**2 < 0.98).float()
    return {
        part: [
            avg_pool2d(image[None], image.shape[-1] // SIZE) * inside
            for image in images
        ]
        for part, images in split_in_three(folder, 1).items()
    }


def ellipses() -> dict[str, list[Tensor]]:
    """Return ellipses for training, validation and test, of shape (1, 1, H, W)."""
    parts = {}
    for number, (part, count) in enumerate(COUNTS.items()):
        data = deq.datasets.RandomEllipses(count, (SIZE, SIZE), seed=number * 10**6)
        parts[part] = [sample["x"][None] for sample in data]
    return parts


@cache
def scan(angles: int, noise_level: float) -> Physics:
    """Return the physics, whose noise has a generator to seed."""
    noise = GaussianNoise(noise_level, rng=torch.Generator())
    return dinv.physics.Tomography(
        angles=angles, img_width=SIZE, circle=True, normalize=True, noise_model=noise
    )


def build(kind: str, weight: float = 0.0) -> Any:
    """Return a model before its training. The weight is that of TV."""
    if kind == "FBP":
        return lambda y, physics: physics.fbp(y)
    if kind == "TV":
        weights = deq.models.ConstantTVMap((0, 0), weight)
        return deq.models.TVMapReconstructor(
            weights, max_iter=TV_ITERATIONS, stepsize=1.9
        )
    if kind == "TV map":
        weights = deq.models.UNetTVMap(1, (0, 0), initial_weight=2e-3)
        return deq.models.TVMapReconstructor(weights, max_iter=60, stepsize=1.9)
    if kind != "ridge":
        return {
            "U-Net": deq.models.FBPUNet,
            "learned gradient": deq.models.LearnedGradientDescent,
            "learned primal-dual": deq.models.LearnedPrimalDual,
        }[kind]()
    return deq.optim.GD(
        data_fidelity=deq.optim.RidgeL2(kappa=KAPPA),
        prior=deq.models.RidgeRegulariser(1),
        stepsize="auto",
        lambda_reg=0.015,
        sigma_denoiser=0.1,
        trainable_params=["lambda", "sigma_denoiser"],
        DEQ=deq.Equilibrium(
            # At 1e-4 the images are far from the fixed point: steps are small.
            deq.Anderson(rtol=1e-5, max_iter=200),
            deq.Implicit(deq.GMRES(rtol=3e-2, max_iter=60)),
            on_failure="ignore",
        ),
    )


def train(
    kind: str, images: list[Tensor], angles: dict[str, tuple[int, float]], output: Path
) -> None:
    """Train a model, or go on from a checkpoint, and write its weights."""
    steps, rate = TRAININGS[kind]
    torch.manual_seed(0)
    model = build(kind)
    settings, loss = list(angles.values()), dinv.metric.SNR(train_loss=True)

    def negative_snr(step: int, generator: torch.Generator) -> Tensor:
        x = images[int(torch.randint(len(images), (), generator=generator))]
        if torch.rand((), generator=generator) < 0.5:
            x = x.flip(-1)
        physics = scan(*settings[step % len(settings)])
        physics.noise_model.rng_manual_seed(step)
        return loss(model(physics(x), physics), x).mean()

    checkpoint = output.with_suffix(".checkpoint")
    training_loop.train(model, negative_snr, steps, rate, checkpoint)
    torch.save(training_loop.half_precision(model.state_dict()), output)


@torch.no_grad()
def measure(model: Any, physics: Physics, x: Tensor, seed: int) -> dict[str, float]:
    """Reconstruct an image and return its figures."""
    physics.noise_model.rng_manual_seed(seed)
    y = physics(x)
    start = time.process_time()
    reconstructed = model(y, physics)
    seconds = time.process_time() - start
    psnr = dinv.metric.PSNR(max_pixel=1)(reconstructed, x)
    return {
        "PSNR": round(float(psnr), 3),
        "SSIM": round(float(dinv.metric.SSIM()(reconstructed, x)), 4),
        "seconds": round(seconds, 2),
    }


def best_weight(physics: Physics, images: list[Tensor]) -> float:
    """Return the best weight of total variation for validation images."""

    def score(weight: float) -> float:
        model = build("TV", weight)
        return statistics.mean(measure(model, physics, x, 7)["PSNR"] for x in images)

    return max(TV_WEIGHTS, key=score)


def table(record: Record) -> list[list[str]]:
    """Return the rows of the table: means over images, and spread over seeds."""
    settings = [name for name in record if name != "TV weights"]
    rows = [["model", *(f"{s}: {m}" for s in settings for m in ("PSNR", "SSIM"))]]
    for kind in KINDS:
        row = [kind]
        for setting in settings:
            for metric, digits in (("PSNR", 2), ("SSIM", 3)):
                means = [
                    statistics.mean(image[metric] for image in images)
                    for images in record[setting][kind].values()
                ]
                row.append(measurement_record.mean_and_spread(means, digits))
        rows.append(row)
    return rows


def main() -> None:
    """Train and measure, and write the record and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of slices")
    parser.add_argument("--weights", type=Path, required=True, help="a folder")
    parser.add_argument("--record", type=Path, required=True)
    args = parser.parse_args()

    args.weights.mkdir(exist_ok=True)
    images = {"torsos": torsos(args.folder), "ellipses": ellipses()}
    files = {
        (subject, kind): args.weights / f"{subject}_{kind}.pt".replace(" ", "_")
        for subject in images
        for kind in TRAININGS
    }
    for (subject, kind), file in files.items():
        if not file.exists():
            train(kind, images[subject]["training"], SETTINGS[subject], file)
    warnings.filterwarnings("ignore", message="torch.meshgrid")  # of deepinv
    phantom = SheppLoganDataset(size=SIZE, use_dict_output=True)[0]["x"][None]
    tests = {
        "torsos": {"torsos": images["torsos"]["test"]},
        "ellipses": {"ellipses": images["ellipses"]["test"], "Shepp-Logan": [phantom]},
    }
    record: Record = measurement_record.read(args.record)
    chosen = record.setdefault("TV weights", {})
    for subject, settings in SETTINGS.items():
        for angles, setting in settings.items():
            physics, key = scan(*setting), f"{subject}, {angles}"
            if key not in chosen:
                chosen[key] = best_weight(physics, images[subject]["validation"])
            for kind, (name, part) in product(KINDS, tests[subject].items()):
                model = build(kind, chosen[key])
                if kind in TRAININGS:
                    saved = torch.load(files[subject, kind], weights_only=True)
                    model.load_state_dict(saved)
                    model.eval()
                found = record.setdefault(f"{name}, {angles}", {}).setdefault(kind, {})
                for seed in SEEDS:
                    entry = found.setdefault(str(seed), [])
                    for number in tqdm(range(len(entry), len(part)), f"{key}, {kind}"):
                        noise = 1000 * (seed + 1) + number
                        entry.append(measure(model, physics, part[number], noise))
                        measurement_record.write(args.record, record)
    measurement_record.write_table(args.record, table(record))


if __name__ == "__main__":
    main()
