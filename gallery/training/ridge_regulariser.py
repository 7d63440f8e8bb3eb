r"""Train the ridge regularisers that the package ships, as equilibrium models.

The denoiser is the proximal operator of
:class:`deepinv_equilibrium.models.RidgeRegulariser`, the fixed point of

    z - tau (z - y + grad R(z)),    tau = 2 / (2 + mu - rho),

for patches with white Gaussian noise, whose standard deviation is between 0 and
50/255. Anderson acceleration finds the fixed point, conjugate gradients the
implicit gradient, and Adam minimises the mean absolute error. The tolerances
are loose while the learning rate is large, and fall with it. Every twentieth
image of the folder is for validation.

A checkpoint is written every 25 steps, and the same command goes on from it, with
the same results as a run without a pause::

    python gallery/training/ridge_regulariser.py BSD400 --weak-convexity 1 \
        --output ridge_weakly_convex_grey.pt

The bundled weights were not made by one run of this script. The grey filters and
scalings started from 700 steps of a prototype of the same model, whose spline was
wrong. Then followed 1300 steps with ``--weak-convexity 1``; from its weights at
step 1100 (``--initial``) 500 convex steps; and from those 330 convex steps with
``--in-channels 3``, whose first filters were those of the grey images times the
sum and two differences of the colours, with noise. BSD400 was the training and
test parts of the Berkeley Segmentation Data Set 500, 400 photos of 481 x 321 pixels.

The folder can hold images of any size in any format that Pillow reads. Who is
online gets photos by ``deepinv.datasets``, e.g. ``BSDS500(root, download=True)``.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import RidgeRegulariser

LARGEST_SIGMA = 50 / 255
VALIDATION_SIGMAS = (5, 15, 25, 50)
CHECKPOINT_EVERY, VALIDATE_EVERY = 25, 100
WARM_UP = 50
LEARNING_RATES = {"filters": 4e-3, "slopes": 2e-2, "slope": 1e-2, "scale": 5e-3}


def load(path: Path, in_channels: int) -> Tensor:
    """Return an image with values in [0, 1], of shape (C, H, W)."""
    image = Image.open(path).convert("L" if in_channels == 1 else "RGB")
    values = torch.from_numpy(np.array(image, dtype=np.float32) / 255)
    return values[None] if in_channels == 1 else values.movedim(-1, 0)


def patch(image: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return a random patch of an image, transposed with probability 1/2."""
    top, left = (
        int(torch.randint(side - size + 1, (), generator=generator))
        for side in image.shape[-2:]
    )
    cut = image[:, top : top + size, left : left + size]
    return cut.mT if torch.rand((), generator=generator) < 0.5 else cut


def denoise(
    regulariser: RidgeRegulariser, y: Tensor, sigma: Tensor, rtol: float
) -> deq.Solution:
    """Solve for the proximal operator. The tolerance of the gradient is ten times that
    of the fixed point."""
    slopes = regulariser.spline.slopes().detach()
    step_size = float(2 / (2 + slopes.max() + slopes.min().clamp_max(0)))

    def step(z: Tensor) -> Tensor:
        return z - step_size * (z - y + regulariser.grad(z, sigma))

    solver = deq.Anderson(rtol=rtol, max_iter=200, history_size=6)
    adjoint = deq.Implicit(deq.CG(rtol=10 * rtol, max_iter=60))
    return deq.fixed_point(step, y, solver, adjoint, on_failure="ignore")


@torch.no_grad()
def validate(regulariser: RidgeRegulariser, images: list[Tensor]) -> list[float]:
    """Return the mean PSNR in dB on the centres of images, for each noise level."""
    crops = []
    size = min(80, *(side for image in images for side in image.shape[-2:]))
    for image in images:
        top, left = ((side - size) // 2 for side in image.shape[-2:])
        crops.append(image[:, top : top + size, left : left + size])
    x, psnr = torch.stack(crops), []
    for level in VALIDATION_SIGMAS:
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(level))
        sigma = torch.full((len(x),), level / 255)
        denoised = denoise(regulariser, x + level / 255 * noise, sigma, 1e-3).x
        error = (denoised - x).square().flatten(1).mean(1)
        psnr.append(-10 * float(error.log10().mean()))
    return psnr


def rate(step: int, steps: int) -> float:
    """Return the share of the learning rate: a warm-up and half a cosine."""
    cosine = 0.02 + 0.49 * (1 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / WARM_UP) * cosine


def main() -> None:
    """Train a regulariser, or go on from a checkpoint, and write its weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of images")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--initial", type=Path, help="weights to start from")
    parser.add_argument("--in-channels", type=int, default=1, choices=(1, 3))
    parser.add_argument("--weak-convexity", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--stop", type=int, help="pause after this step")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--patch-size", type=int, default=40)
    parser.add_argument("--rate", type=float, default=1.0, help="scales all rates")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    files = sorted(args.folder.iterdir())
    held_out = [load(file, args.in_channels) for file in files[::20]]
    images = [load(f, args.in_channels) for i, f in enumerate(files) if i % 20]
    torch.manual_seed(args.seed)
    regulariser = RidgeRegulariser(args.in_channels, None, args.weak_convexity)
    if args.initial is not None:
        weights = torch.load(args.initial, weights_only=True)
        regulariser.load_state_dict(weights, strict=False)
    spline = regulariser.spline
    slopes = [p for name, p in spline.named_parameters() if name != "log_slope"]
    parameters = {
        "filters": list(regulariser.filters.parameters()),
        "slopes": slopes,
        "slope": [spline.log_slope],
        "scale": list(regulariser.scaling.parameters()),
    }
    optimizer = torch.optim.Adam(
        [{"params": parameters[name]} for name in LEARNING_RATES], betas=(0.9, 0.99)
    )
    first, seconds = 0, 0.0
    checkpoint = args.output.with_suffix(".checkpoint")
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        regulariser.load_state_dict(saved["regulariser"])
        optimizer.load_state_dict(saved["optimizer"])
        first, seconds = saved["step"], saved["seconds"]

    start, losses = time.process_time(), []
    last = min(args.steps, args.stop or args.steps)
    for step in range(first, last):
        # Each step has its own random numbers, so that a run can go on anywhere.
        generator = torch.Generator().manual_seed(args.seed * 10**6 + step)
        share = rate(step, args.steps) * args.rate
        for group, name in zip(optimizer.param_groups, LEARNING_RATES, strict=True):
            group["lr"] = share * LEARNING_RATES[name]
        picks = torch.randint(len(images), (args.batch_size,), generator=generator)
        x = torch.stack([patch(images[i], args.patch_size, generator) for i in picks])
        sigma = LARGEST_SIGMA * torch.rand(len(x), generator=generator) ** 1.3
        noise = torch.randn(x.shape, generator=generator)
        y = x + sigma[:, None, None, None] * noise
        rtol = 2e-3 if share > 0.5 * args.rate else 5e-4
        solution = denoise(regulariser, y, sigma, rtol)
        loss = (solution.x - x).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == last:
            spent = seconds + time.process_time() - start
            line = f"{step + 1} loss {sum(losses) / len(losses):.5f}"
            line += f" iterations {float(solution.iterations.float().mean()):.1f}"
            line += (
                f" mu {float(spline.log_slope.detach().exp()):.2f} seconds {spent:.0f}"
            )
            if (step + 1) % VALIDATE_EVERY == 0:
                values = validate(regulariser, held_out)
                line += " validation " + " ".join(f"{value:.3f}" for value in values)
            print(line, flush=True)
            losses = []
            state = {
                "regulariser": regulariser.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
                "seconds": spent,
            }
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").rename(checkpoint)
    torch.save(regulariser.state_dict(), args.output)


if __name__ == "__main__":
    main()
