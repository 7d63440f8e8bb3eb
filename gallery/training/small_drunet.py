r"""Train the small DRUNet that the package ships.

The network is trained on 64 x 64 patches of the photos of a folder, rotated and
mirrored, with white Gaussian noise, whose standard deviation is drawn log-uniformly
from [.005, .2]. A quarter of the samples is grey with the same noise in the three
channels, so that the network can be folded into a grey one. The loss is L1, with
batches of 8. Every fortieth image of the folder is for validation.

The network is trained twice. The first training is that of a denoiser, with Adam at
1e-3. In the second training, with Adam at 3e-4, a penalty makes iterations with the
denoiser converge. The penalty is .5 max(0, e - .9)^2, where e = ||J^T u|| with ||u|| =
1 is a lower estimate of the spectral norm of the Jacobian J of the denoiser, at a point
between a clean image and a noisy one; u comes from three iterations of the power method
(after Pesquet et al., "Learning maximally monotone operators for image recovery", 2021,
who penalise 2J - I). The penalty certifies nothing. The learning rates follow a cosine
schedule, and gradients are clipped. The written weights are the exponential moving
average in half precision.

A checkpoint is written every 500 steps, and the same command goes on from it, with the
same results as a run without a pause::

    OMP_NUM_THREADS=1 python gallery/training/small_drunet.py BSD400 \
        --output deepinv_equilibrium/models/denoisers/weights/small_drunet.pt

The bundled weights were made by this command, where BSD400 was the training and test
parts of the Berkeley Segmentation Data Set 500, 400 photos of 481 x 321 pixels. Who is
online gets photos by ``deepinv.datasets``, e.g. ``BSDS500(root, download=True)``. The
trainings took 2,500 and 1,300 seconds on one core. PSNR in dB on the ten validation
images, in colour, at the noise levels 5, 15, 25 and 50 over 255::

    after the first training   39.67 33.16 30.32 26.80
    after the second           38.80 32.73 29.97 26.47
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
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from validation import validate

from deepinv_equilibrium.models import SmallDRUNet

BATCH_SIZE, PATCH_SIZE = 8, 64
SIGMA_RANGE = (0.005, 0.2)
GREY_SHARE = 0.25
LARGEST_GRADIENT = 0.5
CHECKPOINT_EVERY, VALIDATE_EVERY = 500, 1000


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
    folder: tuple[list[Tensor], list[Tensor]],
    steps: int,
    lr: float,
    decay: float,
    penalty: float,
    seed: int,
    checkpoint: Path,
) -> dict[str, Tensor]:
    """Train a denoiser in place; return its average weights in half precision."""
    images, held_out = folder
    average = AveragedModel(denoiser, multi_avg_fn=get_ema_multi_avg_fn(decay))
    optimizer = torch.optim.Adam(denoiser.parameters(), lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    parts = {
        "denoiser": denoiser,
        "average": average,
        "optimizer": optimizer,
        "scheduler": scheduler,
    }
    for step in range(training_loop.resume(checkpoint, parts), steps):
        # Each step has its own random numbers, so that a run can go on anywhere.
        generator = torch.Generator().manual_seed(seed * 10**6 + step)
        batch, _ = patches(images, BATCH_SIZE, PATCH_SIZE, generator)
        x, sigma, y = noisy_batch(batch, generator)
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
        # Without a limit, single steps of a trial threw the weights far off.
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        scheduler.step()
        average.update_parameters(denoiser)
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            training_loop.save(checkpoint, parts, step + 1)
        if (step + 1) % VALIDATE_EVERY == 0 or step + 1 == steps:
            text = f"step {step + 1} loss {float(loss.detach()):.4f}"
            text += f" seconds {time.process_time():.0f}"
            print(
                f"{text} validation {validate(average.module, held_out, 256)}",
                flush=True,
            )
    weights = average.module.state_dict()
    return {name: w.half().contiguous() for name, w in weights.items()}


def main() -> None:
    """Train, or go on from a checkpoint, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of colour images")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--penalised-steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    folder = split(args.folder, 3)
    torch.manual_seed(args.seed)
    denoiser = SmallDRUNet(pretrained=None).to(memory_format=torch.channels_last)
    trainings = (
        ("denoiser", args.steps, 1e-3, 0.999, 0.0),
        ("penalised", args.penalised_steps, 3e-4, 0.99, 0.5),
    )
    for number, (name, *settings) in enumerate(trainings):
        print(name, flush=True)
        checkpoint = args.output.with_suffix(f".{name}.checkpoint")
        weights = train(denoiser, folder, *settings, args.seed + number, checkpoint)
        denoiser.load_state_dict(weights)
    torch.save(weights, args.output)


if __name__ == "__main__":
    main()
