r"""Train the convex-potential denoisers that the package ships.

The network is trained on 40 x 40 patches of the photos of a folder with white Gaussian
noise, whose standard deviation is drawn log-uniformly from [2, 50]/255, with batches of
8 and Adam with a one-cycle learning rate with a maximum of 1e-2. The patches are not
rotated, because the filters include all their rotations and reflections. Every fortieth
image of the folder is for validation. The loss is the mean of log(e / sigma^2 + .02),
where e is the mean squared error of a patch. With this loss the PSNR of each patch
counts equally, until its error is below a seventh of the noise. With the mean of e,
smooth photos lost 2 to 3 dB in trials, because textured patches dominated.

A checkpoint is written every 100 steps, and the same command goes on from it, with the
same results as a run without a pause. The bundled weights were made by ::

    train="python gallery/training/convex_potential_denoiser.py BSD400"
    averaged="convex_potential_averaged"
    firm="convex_potential_firmly_nonexpansive"
    $train --output ${averaged}_grey.pt
    $train --in-channels 3 --output ${averaged}_colour.pt
    $train --firmly-nonexpansive --output ${firm}_grey.pt
    $train --firmly-nonexpansive --in-channels 3 --output ${firm}_colour.pt

where BSD400 was the training and test parts of the Berkeley Segmentation Data Set 500,
400 photos of 481 x 321 pixels. Who is online gets photos by ``deepinv.datasets``, e.g.
``BSDS500(root, download=True)``.

Each training took ten minutes on one core. PSNR in dB on the ten validation images at
the noise levels 5, 15, 25 and 50 over 255::

    averaged, grey               36.58 30.34 27.91 24.57
    averaged, colour             39.52 32.84 30.04 26.52
    firmly nonexpansive, grey    36.23 29.58 26.86 23.09
    firmly nonexpansive, colour  39.19 32.04 28.84 24.46

After 300 steps in trials, six layers had 36.34 30.13 27.73 24.50 and ten layers 36.39
30.14 27.75 24.51. More filters, larger filters and a threshold for each filter gained
less than .02 dB.

A contraction of .9 about mid-grey darkens bright pixels and brightens dark ones: the
error of a clean image is a tenth of its distance to mid-grey.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
import training_loop
from image_folder import patches, split
from torch import Tensor
from validation import validate

from deepinv_equilibrium.models import ConvexPotentialDenoiser

BATCH_SIZE, PATCH_SIZE = 8, 40
SIGMA_RANGE = (2 / 255, 50 / 255)
LEARNING_RATE = 1e-2
CHECKPOINT_EVERY, VALIDATE_EVERY = 100, 500


def noise_levels(count: int, generator: torch.Generator) -> Tensor:
    """Return log-uniform noise levels."""
    low, high = (math.log(sigma) for sigma in SIGMA_RANGE)
    return (low + (high - low) * torch.rand(count, generator=generator)).exp()


def main() -> None:
    """Train, or go on from a checkpoint, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of images")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--in-channels", type=int, choices=(1, 3), default=1)
    parser.add_argument("--firmly-nonexpansive", action="store_true")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--stop", type=int, help="pause after this step")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    images, held_out = split(args.folder, args.in_channels)
    torch.manual_seed(args.seed)
    denoiser = ConvexPotentialDenoiser(
        args.in_channels, args.firmly_nonexpansive, pretrained=None
    )
    optimizer = torch.optim.Adam(denoiser.parameters(), LEARNING_RATE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        LEARNING_RATE,
        total_steps=args.steps,
        pct_start=0.02,
        cycle_momentum=False,
    )
    parts = {"denoiser": denoiser, "optimizer": optimizer, "scheduler": scheduler}
    checkpoint = args.output.with_suffix(".checkpoint")
    first = training_loop.resume(checkpoint, parts)
    last = min(args.steps, args.stop or args.steps)
    for step in range(first, last):
        # Each step has its own random numbers, so that a run can go on anywhere.
        generator = torch.Generator().manual_seed(args.seed * 10**6 + step)
        x, _ = patches(images, BATCH_SIZE, PATCH_SIZE, generator)
        sigma = noise_levels(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        denoised = denoiser(x + sigma[:, None, None, None] * noise, sigma)
        error = (denoised - x).square().mean(dim=(1, 2, 3))
        # The PSNR of an image, unless its error is far below the noise.
        loss = (error / sigma**2 + 0.02).log().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == last:
            training_loop.save(checkpoint, parts, step + 1)
        if (step + 1) % VALIDATE_EVERY == 0 or step + 1 == last:
            text = f"step {step + 1} loss {float(loss.detach()):.3f}"
            text += f" seconds {time.process_time():.0f}"
            print(f"{text} validation {validate(denoiser, held_out, 80)}", flush=True)
    torch.save(denoiser.state_dict(), args.output)
    print(denoiser.lipschitz_bound())


if __name__ == "__main__":
    main()
