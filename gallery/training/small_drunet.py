r"""Train the small DRUNet that the package ships.

The network sees 64 x 64 crops of the training photos of
:class:`deepinv_equilibrium.datasets.Photos`, turned and mirrored,
with white Gaussian noise of a standard deviation drawn
log-uniformly from [.005, .2]; a quarter of the samples is grey with
the same noise in the three channels, so that the network can be
folded into a grey one. L1 loss, Adam at 2e-3 with a cosine decay,
batches of 8; what is written is the exponential moving average of
the weights in half precision.

The weights that are shipped were made by ::

    OMP_NUM_THREADS=1 python gallery/training/small_drunet.py \
        --output deepinv_equilibrium/models/weights/small_drunet.pt

in 1195 seconds on one of two cores, both busy with other work. It
printed, in dB at the noise levels .025, .05 and .1::

    validation stereo_motorcycle  35.77 33.20 30.03
    test       chelsea            38.68 34.93 31.38
    test       retina             43.64 39.92 35.62
    test       coins              38.69 34.33 30.50
    test       moon               43.01 40.19 37.58
    test       page               38.74 34.07 29.73

The test photos chose nothing: they were looked at once, at the end.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from deepinv_equilibrium.datasets import Photos
from deepinv_equilibrium.models import SmallDRUNet

BATCH_SIZE = 8
SIGMA_RANGE = (0.005, 0.2)
GREY_SHARE = 0.25
SIGMAS = (0.025, 0.05, 0.1)  # of the report


def noisy_batch(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return the augmented images, their noise levels and them with noise."""
    turns, mirror = torch.randint(4, (2,), generator=generator).tolist()
    x = x.rot90(turns, dims=(2, 3))
    x = x.flip(3) if mirror % 2 else x
    low, high = (math.log(sigma) for sigma in SIGMA_RANGE)
    uniform = torch.rand(len(x), generator=generator)
    sigma = (low + (high - low) * uniform).exp()
    noise = torch.randn(x.shape, generator=generator)
    grey = torch.rand(len(x), 1, 1, 1, generator=generator) < GREY_SHARE
    x = torch.where(grey, x.mean(1, keepdim=True), x)
    noise = torch.where(grey, noise[:, :1], noise)
    return x, sigma, x + sigma[:, None, None, None] * noise


@torch.no_grad()
def psnr(denoiser: torch.nn.Module, x: Tensor, sigma: float) -> float:
    """Return the PSNR in decibels of a denoised image, clipped to [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    y = x + sigma * torch.randn(x.shape, generator=generator)
    error = (denoiser(y, sigma).clamp(0, 1) - x).square().mean()
    return -10 * error.log10().item()


def report(denoiser: torch.nn.Module, split: str) -> str:
    """Return the PSNR of each photo of a split at the noise levels."""
    photos = Photos(split)
    lines = []
    for name, sample in zip(photos.names, photos, strict=True):
        x = sample["x"][None]
        values = [f"{psnr(denoiser, x, sigma):.2f}" for sigma in SIGMAS]
        lines.append(f"{split:10s} {name:18s} {' '.join(values)}")
    return "\n".join(lines)


def main() -> None:
    """Train, report and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("small_drunet.pt"))
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    photos = Photos("train", img_size=64, crops=args.steps * BATCH_SIZE, seed=args.seed)
    denoiser = SmallDRUNet(pretrained=None).to(memory_format=torch.channels_last)
    average = AveragedModel(denoiser, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)

    start = time.perf_counter()
    batches = tqdm(DataLoader(photos, BATCH_SIZE), mininterval=5)
    for step, batch in enumerate(batches, start=1):
        x, sigma, y = noisy_batch(batch["x"], generator)
        y = y.contiguous(memory_format=torch.channels_last)
        loss = (denoiser(y, sigma) - x).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        average.update_parameters(denoiser)
        if step % 1000 == 0 or step == args.steps:
            tqdm.write(f"step {step}\n{report(average.module, 'validation')}")
            weights = average.module.state_dict()
            torch.save(
                {name: w.half().contiguous() for name, w in weights.items()},
                args.output,
            )
    print(f"{time.perf_counter() - start:.0f} seconds")
    print(report(average.module, "test"))


if __name__ == "__main__":
    main()
