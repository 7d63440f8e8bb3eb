r"""Train the small DRUNet that the package ships.

The network is trained on 64 x 64 crops of the training photos of
:class:`deepinv_equilibrium.datasets.Photos`, rotated and mirrored, with white
Gaussian noise, whose standard deviation is drawn log-uniformly from [.005,
.2]. A quarter of the samples is grey with the same noise in the three
channels, so that the network can be folded into a grey one. The loss is L1,
with batches of 8.

The network is trained twice. The first training is that of a denoiser, with
Adam at 2e-3. In the second training, with Adam at 3e-4, a penalty makes
iterations with the denoiser converge. The penalty is .5 max(0, e - .9)^2, where
e = ||J^T u|| with ||u|| = 1 is a lower estimate of the spectral norm of the
Jacobian J of the denoiser, at a point between a clean image and a noisy one;
u comes from three iterations of the power method (after Pesquet et al.,
"Learning maximally monotone operators for image recovery", 2021, who penalise
2J - I). The penalty certifies nothing. The learning rates follow a cosine
schedule. The written weights are the exponential moving average in half
precision.

The bundled weights were made by ::

    OMP_NUM_THREADS=1 python gallery/training/small_drunet.py \
        --output deepinv_equilibrium/models/denoisers/weights/small_drunet.pt

in 1195 seconds for the first training and 950 for the second, on one of two
cores that were also used for other work. The PSNR in dB at the noise levels
.025, .05 and .1, after the first and after the second training, is::

    validation stereo_motorcycle  35.77 33.20 30.03  35.60 33.04 29.91
    test       chelsea            38.68 34.93 31.38  38.49 34.81 31.43
    test       retina             43.64 39.92 35.62  43.37 40.02 35.70
    test       coins              38.69 34.33 30.50  38.16 33.94 30.14
    test       moon               43.01 40.19 37.58  42.83 40.10 37.51
    test       page               38.74 34.07 29.73  37.55 33.22 28.97

The effect of the second training on deblurring of the five test photos (64 x
64, noise .05, step size 1.8, sigma .03): the 200th plug-and-play iteration
changes the photo with the largest change by 1.4e-3 of its norm without it, and
by 9e-6 with it. The PSNR on the validation photo after 200 iterations rises
from 23.9 to 24.9 dB. The penalty was chosen on the validation photo.
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
    """Return the augmented images, their noise levels and the noisy images."""
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


def expansion(
    denoiser: SmallDRUNet,
    x: Tensor,
    sigma: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Return a lower estimate of the norm of the Jacobian at each image."""
    x = x.detach().requires_grad_()
    denoised = denoiser(x, sigma)
    u = torch.randn(x.shape, generator=generator)
    for _ in range(3):
        (u,) = torch.autograd.grad(denoised, x, u, retain_graph=True)
        u = u / u.flatten(1).norm(dim=1)[:, None, None, None]
    (v,) = torch.autograd.grad(denoised, x, u, create_graph=True)
    return v.flatten(1).norm(dim=1)


def train(
    denoiser: SmallDRUNet,
    steps: int,
    lr: float,
    decay: float,
    penalty: float,
    seed: int,
) -> dict[str, Tensor]:
    """Train a denoiser in place; return its average weights in half precision."""
    generator = torch.Generator().manual_seed(seed)
    crops = Photos("train", img_size=64, crops=steps * BATCH_SIZE, seed=seed)
    average = AveragedModel(denoiser, multi_avg_fn=get_ema_multi_avg_fn(decay))
    optimizer = torch.optim.Adam(denoiser.parameters(), lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    batches = tqdm(DataLoader(crops, BATCH_SIZE), mininterval=5)
    for step, batch in enumerate(batches, start=1):
        x, sigma, y = noisy_batch(batch["x"], generator)
        y = y.contiguous(memory_format=torch.channels_last)
        loss = (denoiser(y, sigma) - x).abs().mean()
        if penalty:
            # Second derivatives are expensive: use half of the batch and smaller crops.
            x, y, sigma = x[:4, :, :48, :48], y[:4, :, :48, :48], sigma[:4]
            between = x + torch.rand(4, 1, 1, 1, generator=generator) * (y - x)
            excess = expansion(denoiser, between, sigma, generator) - 0.9
            loss = loss + penalty * excess.relu().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        average.update_parameters(denoiser)
        if step % 1000 == 0 or step == steps:
            tqdm.write(f"step {step}\n{report(average.module, 'validation')}")
    weights = average.module.state_dict()
    return {name: w.half().contiguous() for name, w in weights.items()}


def main() -> None:
    """Train, report and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--penalised-steps", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("small_drunet.pt"))
    args = parser.parse_args()

    start = time.perf_counter()
    torch.manual_seed(args.seed)
    denoiser = SmallDRUNet(pretrained=None).to(memory_format=torch.channels_last)
    weights = train(denoiser, args.steps, 2e-3, 0.999, 0.0, args.seed)
    denoiser.load_state_dict(weights)
    weights = train(denoiser, args.penalised_steps, 3e-4, 0.99, 0.5, args.seed + 1)
    torch.save(weights, args.output)
    print(f"{time.perf_counter() - start:.0f} seconds")
    denoiser.load_state_dict(weights)
    print(report(denoiser, "test"))


if __name__ == "__main__":
    main()
