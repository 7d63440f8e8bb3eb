r"""Train the ridge regularisers that the package ships.

The regulariser is trained on crops of the training photos of
:class:`deepinv_equilibrium.datasets.Photos` with white Gaussian noise, whose
standard deviation is drawn log-uniformly from [.02, .15]. The loss is the
logarithm of the squared error of its proximal operator, so the training
maximises the PSNR. The gradient is implicit. Crops and noise are drawn once.
The proximal operators and adjoints of an epoch are the initial values of the
next one, so that six accelerated gradient steps and six conjugate gradient
steps suffice for each step of Adam (2e-2, cosine schedule). A solve from
scratch to the tolerance of the denoiser takes about sixty products. The
written weights have the strength that is best on the validation photo with
converged proximal operators.

The filters start as derivatives of Gaussians. The filters of the colour network
start as the grey ones. Their thresholds for the sum of the colours give the same
denoiser for grey images, and those for the opponent colours are larger. The
bundled weights were made by ::

    cd gallery/training
    weights=../../deepinv_equilibrium/models/denoisers/weights
    OMP_NUM_THREADS=1 python ridge_prox_denoiser.py \
        --output $weights/ridge_grey.pt
    OMP_NUM_THREADS=1 python ridge_prox_denoiser.py \
        --in-channels 3 --grey $weights/ridge_grey.pt --crop 32 \
        --steps 200 --learning-rate 1e-2 --output $weights/ridge_colour.pt

in 160 and 97 seconds of one core, without the choice of the strength. The PSNR
in dB on the validation photo (the centre of 400 x 400 pixels, with noise of
15/255 and 25/255) for each strength is::

    grey   0.80 29.49 26.42
    grey   0.90 29.75 26.86
    grey   1.00 29.91 27.10
    grey   1.10 29.95 27.16
    grey   1.20 29.87 27.08
    colour 0.80 31.74 28.95
    colour 0.90 31.82 28.97
    colour 1.00 31.59 28.97

The strengths for colour were tried one at a time, with solves to 3e-4 and 1e-3.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from torch import Tensor

from deepinv_equilibrium.datasets import Photos
from deepinv_equilibrium.models import RidgeProxDenoiser, RidgeRegulariser

BATCH_SIZE = 8
SIGMA_RANGE = (0.02, 0.15)
SIGMAS = (15 / 255, 25 / 255)  # of the validation
LEARNING_RATE = 2e-2
CROPS = 400
STRENGTHS = (0.8, 0.9, 1.0, 1.1, 1.2)


def gaussian_derivatives(size: int) -> Tensor:
    """Return a difference of neighbours and five derivatives of Gaussians."""
    axis = torch.arange(size, dtype=torch.float64) - size // 2

    def filter_of(width: float, across: int, down: int) -> Tensor:
        bell = torch.exp(-(axis**2) / 2 / width**2)
        profiles = (bell, -axis * bell, (axis**2 / width**2 - 1) * bell)
        return profiles[down][:, None] * profiles[across]

    difference = torch.zeros(size, size, dtype=torch.float64)
    difference[size // 2, size // 2] = 1
    difference[size // 2, size // 2 + 1] = -1
    filters = [difference, filter_of(0.9, 2, 0), filter_of(0.9, 1, 1)]
    filters += [filter_of(1.3, 1, 0), filter_of(1.5, 2, 0), filter_of(1.5, 1, 1)]
    centred = [f - f.mean() for f in filters]
    return torch.stack([f / f.norm() for f in centred])[:, None]


def initialise(denoiser: RidgeProxDenoiser, grey: Path | None) -> None:
    """Set the initial filters; in colour, derive them from the grey weights."""
    regulariser = denoiser.regulariser
    if grey is None:
        generators = regulariser.generators
        noise = 0.02 * torch.randn_like(generators)
        regulariser.generators.data = (
            gaussian_derivatives(generators.shape[-1]).to(noise) + noise
        )
        return
    weights = torch.load(grey, weights_only=True)
    # The sum of the colours over sqrt(3) is a grey image times sqrt(3) with the same
    # noise. Its threshold is sqrt(3) times the threshold for the noise over sqrt(3).
    # The opponent colours vary less.
    exponent = float(weights["log_exponent"].exp())
    luma = (1 - exponent) * math.log(3) / 2
    offsets = torch.tensor([luma, luma + 1, luma + 1])
    weights["log_threshold"] = weights["log_threshold"] + offsets[:, None]
    regulariser.load_state_dict(weights)


def noisy(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return log-uniform noise levels and the images with that noise."""
    low, high = (math.log(sigma) for sigma in SIGMA_RANGE)
    sigma = (low + (high - low) * torch.rand(len(x), generator=generator)).exp()
    noise = torch.randn(x.shape, generator=generator)
    return sigma, x + sigma[:, None, None, None] * noise


def descend(
    regulariser: RidgeRegulariser, z: Tensor, y: Tensor, sigma: Tensor, steps: int
) -> Tensor:
    """Take accelerated gradient steps towards the proximal operator at y."""
    curvature = 1 + regulariser.smoothness
    ahead, t = z, 1.0
    for _ in range(steps):
        step = ahead - y + regulariser.grad(ahead, sigma)
        previous, z = z, ahead - step / curvature
        t, before = (1 + math.sqrt(1 + 4 * t**2)) / 2, t
        ahead = z + (before - 1) / t * (z - previous)
    return z


def solve_adjoint(
    gradient: Tensor, z: Tensor, rhs: Tensor, v: Tensor, steps: int
) -> Tensor:
    """Take steps of conjugate gradients towards (I + H) v = rhs."""

    def hessian(p: Tensor) -> Tensor:
        return p + torch.autograd.grad(gradient, z, p, retain_graph=True)[0]

    def square(r: Tensor) -> Tensor:
        return r.square().sum((1, 2, 3), keepdim=True).clamp_min(1e-30)

    r = rhs - hessian(v)
    p, norm = r, square(r)
    for _ in range(steps):
        product = hessian(p)
        length = norm / (p * product).sum((1, 2, 3), keepdim=True).clamp_min(1e-30)
        v, r = v + length * p, r - length * product
        p, norm = r + square(r) / norm * p, square(r)
    return v


def train(
    regulariser: RidgeRegulariser, steps: int, crop: int, rate: float, seed: int
) -> None:
    """Train a regulariser in place on noisy crops of the training photos."""
    generator = torch.Generator().manual_seed(seed)
    grey = regulariser.in_channels == 1
    photos = Photos("train", grey=grey, img_size=crop, crops=CROPS, seed=seed)
    x = torch.stack([sample["x"] for sample in photos])
    sigma, y = noisy(x, generator)
    # The solutions of an epoch are the initial values of the next one.
    z, v = y.clone(), torch.zeros_like(y)
    optimizer = torch.optim.Adam(regulariser.parameters(), rate, betas=(0.9, 0.99))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    batches: list[Tensor] = []
    total = 0.0
    for step in range(1, steps + 1):
        if not batches:
            order = torch.randperm(CROPS, generator=generator)
            batches = list(order.split(BATCH_SIZE))
        b = batches.pop()
        first = step <= CROPS // BATCH_SIZE
        with torch.no_grad():
            z[b] = descend(regulariser, z[b], y[b], sigma[b], 20 if first else 6)
        point = z[b].requires_grad_()
        error = (point - x[b]).square().mean(dim=(1, 2, 3))
        # The PSNR of an image, unless its error is far below the noise.
        loss = (error / sigma[b] ** 2 + 0.02).log().mean()
        (rhs,) = torch.autograd.grad(loss, point)
        gradient = regulariser.grad(point, sigma[b])
        v[b] = solve_adjoint(gradient, point, rhs, v[b], 6)
        optimizer.zero_grad()
        (-(v[b] * gradient).sum()).backward()
        optimizer.step()
        scheduler.step()
        total += loss.item()
        if step % 50 == 0:
            seconds = time.process_time()
            print(f"{step:5d} loss {total / 50:.4f} {seconds:.0f} s", flush=True)
            total = 0.0


@torch.no_grad()
def validate(denoiser: RidgeProxDenoiser) -> list[float]:
    """Return the PSNR on the centre of the validation photo at each noise level."""
    grey = denoiser.regulariser.in_channels == 1
    x = Photos("validation", grey=grey, img_size=400)[0]["x"][None]
    values = []
    for sigma in SIGMAS:
        generator = torch.Generator().manual_seed(0)
        y = x + sigma * torch.randn(x.shape, generator=generator)
        error = (denoiser(y, sigma).clamp(0, 1) - x).square().mean()
        values.append(-10 * error.log10().item())
    return values


@torch.no_grad()
def choose_strength(denoiser: RidgeProxDenoiser) -> None:
    """Scale the thresholds by the strength with the best PSNR in the validation."""
    thresholds = denoiser.regulariser.log_threshold
    trained = thresholds.clone()
    scores = {}
    for strength in STRENGTHS:
        thresholds.copy_(trained + math.log(strength))
        values = validate(denoiser)
        scores[strength] = sum(values)
        print(f"strength {strength:.2f}", *(f"{v:.3f}" for v in values), flush=True)
    best = max(scores, key=lambda strength: scores[strength])
    thresholds.copy_(trained + math.log(best))


def main() -> None:
    """Train, choose the strength and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in-channels", type=int, default=1, choices=(1, 3))
    parser.add_argument(
        "--grey", type=Path, help="initial weights of the colour network"
    )
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--crop", type=int, default=40)
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    denoiser = RidgeProxDenoiser(args.in_channels, pretrained=None, rtol=1e-4)
    initialise(denoiser, args.grey)
    train(denoiser.regulariser, args.steps, args.crop, args.learning_rate, args.seed)
    torch.save(denoiser.regulariser.state_dict(), args.output)
    choose_strength(denoiser)
    torch.save(denoiser.regulariser.state_dict(), args.output)
    print(f"{time.process_time():.0f} seconds of one core")


if __name__ == "__main__":
    main()
