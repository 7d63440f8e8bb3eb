r"""Train the convex-potential denoisers that the package ships.

The network is trained on 40 x 40 crops of the training photos of
:class:`deepinv_equilibrium.datasets.Photos` with white Gaussian noise, whose
standard deviation is drawn log-uniformly from [.02, .15]. It takes 1600 steps
of Adam with batches of 8 and a one-cycle learning rate with a maximum of
1e-2. The crops are not rotated, because the filters include all their
rotations and reflections. The loss is the mean of log(e / sigma^2 + .02),
where e is the mean squared error of a crop. With this loss the PSNR of each
crop counts equally, until its error is below a seventh of the noise. With the
mean of e, smooth photos lost 2 to 3 dB in trials, because textured crops
dominated.

The bundled weights were made by ::

    train="python gallery/training/convex_potential_denoiser.py"
    averaged="convex_potential_averaged"
    firm="convex_potential_firmly_nonexpansive"
    $train --output ${averaged}_grey.pt
    $train --in-channels 3 --output ${averaged}_colour.pt
    train="$train --firmly-nonexpansive --steps 500"
    $train --output ${firm}_grey.pt
    $train --in-channels 3 --output ${firm}_colour.pt

with OMP_NUM_THREADS=1, in 931, 1016, 217 and 231 seconds, each on less than
half of a core. The following PSNR values are in dB, on whole test photos
including the borders, at the noise levels 15/255 and 25/255. Total variation
is deepinv's, for each channel separately, with the strength .7 sigma, which is
best on the validation photo at both levels. The last three photos are grey: in
colour they are three copies with independent noise. ::

    grey                chelsea retina coins moon  page
    15 total variation   31.66  38.32  29.87 36.79 28.69
       averaged          32.31  39.77  29.90 37.49 28.75
       contracted .99    32.27  39.38  29.80 37.48 28.60
       contracted .9     31.01  31.35  27.58 36.26 26.11
       firm              31.89  36.21  29.50 34.93 28.04
       firm, .99         31.88  35.97  29.43 34.98 27.93
       firm, .9          30.89  30.70  27.42 34.63 25.75
    25 total variation   29.51  34.94  27.56 33.75 25.55
       averaged          30.30  37.34  27.53 35.42 25.55
       contracted .99    30.27  37.07  27.46 35.44 25.46
       contracted .9     29.44  30.92  25.98 34.77 23.99
       firm              29.20  31.74  26.83 30.89 24.87
       firm, .99         29.23  31.64  26.80 30.96 24.82
       firm, .9          28.93  29.05  25.69 31.27 23.66

    colour              chelsea retina coins moon  page
    15 total variation   31.58  38.18  29.88 36.78 28.68
       averaged          34.03  39.93  32.62 38.81 32.13
       contracted .99    33.96  39.31  32.50 38.80 31.91
       contracted .9     31.41  29.10  29.18 37.21 27.91
       firm              32.75  35.62  31.58 34.77 30.90
       firm, .99         32.73  35.32  31.50 34.83 30.75
    25 total variation   29.44  34.88  27.59 33.74 25.54
       averaged          31.75  37.64  29.87 36.51 28.72
       contracted .99    31.71  37.21  29.79 36.52 28.58
       contracted .9     30.03  28.85  27.66 35.65 26.12
       firm              29.44  31.45  28.28 30.73 27.35
       firm, .99         29.46  31.31  28.26 30.80 27.29

A contraction of .9 about mid-grey darkens bright pixels and brightens dark
ones: the error of a clean image is a tenth of its distance to mid-grey. This
error is most of the loss in the tables.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from deepinv.models import Denoiser, TVDenoiser
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from deepinv_equilibrium.datasets import Photos
from deepinv_equilibrium.models import ConvexPotentialDenoiser

BATCH_SIZE = 8
SIGMA_RANGE = (0.02, 0.15)
SIGMAS = (15 / 255, 25 / 255)  # of the report
TV_STRENGTHS = (0.6, 0.7, 0.8, 0.9, 1.0)  # over sigma
LEARNING_RATE = 1e-2


def per_image_noise(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return log-uniform noise levels and the images with that noise."""
    low, high = (math.log(sigma) for sigma in SIGMA_RANGE)
    sigma = (low + (high - low) * torch.rand(len(x), generator=generator)).exp()
    noise = torch.randn(x.shape, generator=generator)
    return sigma, x + sigma[:, None, None, None] * noise


def train(denoiser: ConvexPotentialDenoiser, steps: int, seed: int) -> None:
    """Train a denoiser in place on crops of the training photos."""
    generator = torch.Generator().manual_seed(seed)
    grey = denoiser.in_channels == 1
    crops = Photos("train", grey=grey, img_size=40, crops=steps * BATCH_SIZE, seed=seed)
    optimizer = torch.optim.Adam(denoiser.parameters(), LEARNING_RATE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        LEARNING_RATE,
        total_steps=steps,
        pct_start=0.02,
        cycle_momentum=False,
    )
    batches = tqdm(DataLoader(crops, BATCH_SIZE), mininterval=30)
    for step, batch in enumerate(batches, start=1):
        x = batch["x"]
        sigma, y = per_image_noise(x, generator)
        error = (denoiser(y, sigma) - x).square().mean(dim=(1, 2, 3))
        # The PSNR of an image, unless its error is far below the noise.
        loss = (error / sigma**2 + 0.02).log().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 500 == 0 or step == steps:
            tqdm.write(f"step {step}: {report(denoiser, 'validation')}")


@torch.no_grad()
def psnr(denoiser: Denoiser, x: Tensor, sigma: float, level: float) -> float:
    """Return the PSNR in decibels of a denoised image, clipped to [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    y = x + sigma * torch.randn(x.shape, generator=generator)
    error = (denoiser(y, level).clamp(0, 1) - x).square().mean()
    return -10 * error.log10().item()


def report(denoiser: ConvexPotentialDenoiser, split: str) -> str:
    """Return the PSNR of each photo of a split at the noise levels."""
    photos = Photos(split, grey=denoiser.in_channels == 1)
    return " | ".join(
        " ".join(f"{psnr(denoiser, sample['x'][None], s, s):.2f}" for sample in photos)
        for s in SIGMAS
    )


def report_tv(in_channels: int) -> str:
    """Return the PSNR of total variation on each test photo, with the strength that
    is best on the validation photo."""
    validation, test = (
        Photos(split, grey=in_channels == 1) for split in ("validation", "test")
    )

    def value(x: Tensor, sigma: float, strength: float) -> float:
        # A new denoiser for each photo: deepinv's continues from its last result.
        return psnr(TVDenoiser(n_it_max=300), x[None], sigma, strength * sigma)

    columns = []
    for sigma in SIGMAS:
        scores = [value(validation[0]["x"], sigma, s) for s in TV_STRENGTHS]
        strength = TV_STRENGTHS[scores.index(max(scores))]
        tested = [value(sample["x"], sigma, strength) for sample in test]
        columns.append(" ".join(f"{score:.2f}" for score in tested))
    return " | ".join(columns)


def main() -> None:
    """Train, report and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in-channels", type=int, choices=(1, 3), default=1)
    parser.add_argument("--firmly-nonexpansive", action="store_true")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("convex_potential.pt"))
    args = parser.parse_args()

    start = time.perf_counter()
    torch.manual_seed(args.seed)
    denoiser = ConvexPotentialDenoiser(
        args.in_channels, args.firmly_nonexpansive, pretrained=None
    )
    train(denoiser, args.steps, args.seed)
    torch.save(denoiser.state_dict(), args.output)
    print(f"{time.perf_counter() - start:.0f} seconds, {denoiser.lipschitz_bound()}")
    for contraction in (1.0, 0.99, 0.9):
        denoiser.contraction = contraction
        print(f"contraction {contraction:4g}: {report(denoiser, 'test')}")
    print(f"total variation : {report_tv(args.in_channels)}")


if __name__ == "__main__":
    main()
