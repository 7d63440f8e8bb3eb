r"""Train the ridge regularisers that the package ships, as equilibrium models.

The denoiser is the proximal operator of
:class:`deepinv_equilibrium.models.RidgeRegulariser`, the fixed point of

    z - P (z - y + grad R(z)),    P = (I + c mu V^T V)^-1,

for patches with white Gaussian noise, whose standard deviation is between 2/255 and
50/255. V are the filters, and P is computed by fast Fourier transforms of the
reflected patches. Anderson acceleration finds the fixed point, GMRES the implicit
gradient. The optimiser SOAP minimises the squared error of each patch, divided by the
mean squared error of the convex-potential denoiser on the image that the patch is from,
so that the mean PSNR over whole images increases. The written weights are a moving
average. Every fortieth image of the folder is for validation.

**Tolerances.** For a patch with the noiseless image x, the gradient of the loss in z
is a multiple of z - x. If z is short of the fixed point z*, its relative error is at
most

    |z - z*| / |z - x| <= (1 + c mu) / (1 - rho) |f(z) - z| / |z - x|.

The training holds this bound at a number eta, which falls from .3 with the learning
rate, and the relative residual of the adjoint at eta / 10. So the first
steps are cheap and the last ones accurate. For weights with 1 - rho below .1, where
the bound would not be of use, .1 stands in its place. ``--rtol`` sets a fixed
tolerance instead, and ten times that for the adjoint.

A checkpoint is written every 25 steps, and the same command goes on from it, with
the same results as a run without a pause::

    python gallery/training/ridge_regulariser.py BSD400 --weak-convexity 1 \
        --output ridge_weakly_convex_grey.pt

The bundled weights were not made by one run of this script. Prototypes of the same
model with 16 filters up to reflection and mean absolute errors came first: 2000 steps
with ``--weak-convexity 1``, and from step 1800 on 500 convex steps. Their tolerances
were loose, 2e-3 to 5e-4. These prototypes were trained on by root mean square errors,
for 850 steps with ``--weak-convexity 1`` and for 1550 convex ones, with 16 more
filters, which shrank and are left out. The bundled grey weights followed by ::

    python gallery/training/ridge_regulariser.py BSD400 --generators 16 --steps 400 \
        --rate 0.6 --initial prototype_convex.pt --output ridge_convex_grey.pt
    python gallery/training/ridge_regulariser.py BSD400 --generators 16 --steps 350 \
        --rate 0.6 --initial prototype_weakly_convex.pt --weak-convexity 1 \
        --output ridge_weakly_convex_grey.pt

The weakly convex colour weights are 650 steps by root mean square errors, with 32
filters, from the prototype of the grey ones, whose first filters were copied to the
mean and to two differences of the colours. Their PSNR on the validation images at the
noise levels 5, 15, 25 and 50 was 39.94 / 33.44 / 30.66 / 26.62 after 400 steps and
39.97 / 33.48 / 30.72 / 26.68 at the end. The convex ones followed from these by ::

    python gallery/training/ridge_regulariser.py BSD400 --in-channels 3 --steps 400 \
        --rate 0.6 --initial ridge_weakly_convex_colour.pt \
        --output ridge_convex_colour.pt

with 39.29 / 32.87 / 30.05 / 26.27.

In trials of some hundred steps, more filters, a spline for each filter, potentials of
pairs of filters and single convolutions were not better. BSD400 was the training and
test parts of the Berkeley Segmentation Data Set 500, 400 photos of 481 x 321 pixels.

**What the tolerances save.** 300 steps with ``--generators 8 --batch-size 8`` from
random weights, evaluations of the step and its transpose for each patch, and PSNR in dB
on the validation images at the noise levels 5, 15, 25 and 50::

    tolerances          products  5      15     25     50
    follow the bound    3775      36.13  29.74  27.11  23.00
    fixed, 1e-5         6137      36.16  29.75  27.12  23.05
    fixed, 1e-6         7506      36.15  29.78  27.16  23.06

The folder can hold images of any size in any format that Pillow reads. Who is
online gets photos by ``deepinv.datasets``, e.g. ``BSDS500(root, download=True)``.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from image_folder import centres, patches, split
from soap import SOAP
from torch import Tensor
from validation import validate

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import ConvexPotentialDenoiser, RidgeRegulariser

REFERENCE_LEVELS = (2.0, 5.0, 15.0, 25.0, 50.0)  # over 255
CHECKPOINT_EVERY, VALIDATE_EVERY = 25, 200
WARM_UP = 30
LEARNING_RATES = {"filters": 4e-3, "slopes": 2e-2, "slope": 1e-2, "scale": 5e-3}
AVERAGE = 0.98
# The share of mu in the preconditioner with which Anderson needs the fewest steps, of
# .25 to 1: two thirds of those of gradient descent for convex regularisers. The spline
# is in its steep part for a part of the responses only.
STEEP_SHARE = 0.25
SMALLEST_FILTER, SPLIT = 0.1, 0.1
FIRST_ERROR, SMALLEST_MODULUS, ADJOINT_SHARE = 0.3, 0.1, 0.1


def noise_levels(count: int, generator: torch.Generator) -> Tensor:
    """Return noise levels: one in five between 30/255 and 50/255, others from 2/255 to
    30/255."""
    parts = torch.rand(count, generator=generator)
    high = torch.arange(count) % 5 == 0
    return torch.where(high, 30 + 20 * parts, 2 + 28 * parts) / 255


@torch.no_grad()
def preconditioner(
    regulariser: RidgeRegulariser, size: tuple[int, int]
) -> Callable[[Tensor], Tensor]:
    r"""Return the map :math:`(I + c \mu V^\top V)^{-1}` for images of a size."""
    height, width = size
    period = (2 * height, 2 * width)
    # The filters are closed under reflection, so that V^T V is diagonal in the Fourier
    # domain of the reflected image, but for the channels.
    spectrum = torch.fft.rfft2(regulariser.filters(), s=period)
    gram = torch.einsum("gchw,gdhw->hwcd", spectrum.conj(), spectrum).real
    weight = STEEP_SHARE * float(regulariser.spline.slopes().max())
    inverse = torch.linalg.inv(torch.eye(gram.shape[-1]) + weight * gram)
    inverse = inverse.to(spectrum.dtype)

    def apply(v: Tensor) -> Tensor:
        extended = torch.cat((v, v.flip(-1)), -1)
        extended = torch.cat((extended, extended.flip(-2)), -2)
        values = torch.fft.rfft2(extended)
        values = torch.einsum("hwcd,bdhw->bchw", inverse, values)
        return torch.fft.irfft2(values, s=period)[..., :height, :width]

    return apply


def denoise(
    regulariser: RidgeRegulariser,
    y: Tensor,
    sigma: Tensor,
    rtol: float,
    adjoint_rtol: float,
) -> deq.Solution:
    """Solve for the proximal operator."""
    precondition = preconditioner(regulariser, (y.shape[-2], y.shape[-1]))

    def step(z: Tensor) -> Tensor:
        return z - precondition(z - y + regulariser.grad(z, sigma))

    solver = deq.Anderson(rtol=rtol, max_iter=200, history_size=8)
    adjoint = deq.Implicit(deq.GMRES(rtol=adjoint_rtol, max_iter=60))
    return deq.fixed_point(step, y, solver, adjoint, on_failure="ignore")


def tolerance(regulariser: RidgeRegulariser, error: float, ratio: float) -> float:
    """Return the relative residual at which the gradient of the loss has at most a
    relative error, for patches whose root mean square error is at least a ratio of
    their root mean square."""
    slopes = regulariser.spline.slopes().detach()
    modulus = max(1 + min(float(slopes.min()), 0.0), SMALLEST_MODULUS)
    return error * ratio * modulus / (1 + STEEP_SHARE * float(slopes.max()))


@torch.no_grad()
def with_generators(
    weights: dict[str, Tensor], in_channels: int, generators: int
) -> dict[str, Tensor]:
    """Return weights with another number of filters.

    A filter f with the scaling a becomes two filters (f + d) / 2^.5 and (f - d) / 2^.5
    with the scaling 2^.5 a and a random d of a tenth of the norm of f, so that the
    regulariser hardly changes. Filters that are much smaller than others are replaced,
    because they do not grow: the potential of a small response is a square, which
    penalises images more than it denoises them.
    """
    last = max(name for name in weights if name.startswith("filters."))
    old = RidgeRegulariser(in_channels, None, generators=len(weights[last]))
    old.load_state_dict(weights, strict=False)
    norms = old.filters()[: len(weights[last])].flatten(1).norm(dim=1)
    order = norms.argsort(descending=True)
    alive = order[norms[order] > SMALLEST_FILTER * norms.max()][:generators]
    shares = torch.arange(generators) % len(alive)
    picks, copies = alive[shares], shares.bincount()[shares].sqrt()
    filters = weights[last][picks]
    steps = torch.randn(filters.shape, generator=torch.Generator().manual_seed(0))
    # Two halves of a filter move in opposite directions.
    steps[len(alive) : 2 * len(alive)] = -steps[: max(0, generators - len(alive))]
    ratio = filters.flatten(1).norm(dim=1) / steps.flatten(1).norm(dim=1)
    changes = SPLIT * (copies > 1) * ratio
    filters = filters + changes[:, None, None, None] * steps
    return weights | {
        last: filters / copies[:, None, None, None],
        "scaling.exponents": weights["scaling.exponents"][picks]
        + copies.log()[:, None],
    }


@torch.no_grad()
def errors_of_images(images: list[Tensor], in_channels: int) -> Tensor:
    """Return the logarithms of the mean squared errors of a fast denoiser on the
    centres of images, for each image and reference noise level."""
    denoiser = ConvexPotentialDenoiser(in_channels)
    errors = torch.empty(len(images), len(REFERENCE_LEVELS))
    for number, image in enumerate(images):
        x = centres([image], 120)
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(number))
        for column, level in enumerate(REFERENCE_LEVELS):
            denoised = denoiser(x + level / 255 * noise, level / 255)
            errors[number, column] = (denoised - x).square().mean().log()
    return errors


def typical(difficulties: Tensor, sigma: Tensor) -> Tensor:
    """Return the mean squared errors to expect of images at noise levels, interpolated
    between the reference levels."""
    knots = torch.tensor(REFERENCE_LEVELS).log()
    position = (sigma * 255).log().clamp(knots[0], knots[-1])
    right = torch.searchsorted(knots, position).clamp(1, len(knots) - 1)
    part = (position - knots[right - 1]) / (knots[right] - knots[right - 1])
    low, high = (difficulties.gather(1, i[:, None])[:, 0] for i in (right - 1, right))
    return torch.lerp(low, high, part).exp()


def main() -> None:
    """Train a regulariser, or go on from a checkpoint, and write its weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of images")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--initial", type=Path, help="weights to start from")
    parser.add_argument("--in-channels", type=int, default=1, choices=(1, 3))
    parser.add_argument("--weak-convexity", type=float, default=0.0)
    parser.add_argument("--generators", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--stop", type=int, help="pause after this step")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--patch-size", type=int, default=40)
    parser.add_argument("--rate", type=float, default=1.0, help="scales all rates")
    parser.add_argument("--rtol", type=float, help="a fixed tolerance")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    images, held_out = split(args.folder, args.in_channels)
    difficulties = errors_of_images(images, args.in_channels)
    torch.manual_seed(args.seed)
    regulariser = RidgeRegulariser(
        args.in_channels, None, args.weak_convexity, generators=args.generators
    )
    if args.initial is not None:
        weights = torch.load(args.initial, weights_only=True)
        weights = with_generators(weights, args.in_channels, args.generators)
        regulariser.load_state_dict(weights, strict=False)
    spline = regulariser.spline
    slopes = [p for name, p in spline.named_parameters() if name != "log_slope"]
    parameters = {
        "filters": list(regulariser.filters.parameters()),
        "slopes": slopes,
        "slope": [spline.log_slope],
        "scale": list(regulariser.scaling.parameters()),
    }
    optimizer = SOAP([{"params": parameters[name]} for name in LEARNING_RATES])
    average = {key: v.clone() for key, v in regulariser.state_dict().items()}
    first, seconds, products, ratio = 0, 0.0, 0, 0.01
    checkpoint = args.output.with_suffix(".checkpoint")
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        regulariser.load_state_dict(saved["regulariser"])
        optimizer.load_state_dict(saved["optimizer"])
        average, first, seconds = saved["average"], saved["step"], saved["seconds"]
        products, ratio = saved["products"], saved["ratio"]

    start, losses = time.process_time(), []
    last = min(args.steps, args.stop or args.steps)
    for step in range(first, last):
        # Each step has its own random numbers, so that a run can go on anywhere.
        generator = torch.Generator().manual_seed(args.seed * 10**6 + step)
        share = 0.02 + 0.49 * (1 + math.cos(math.pi * step / args.steps))
        for group, name in zip(optimizer.param_groups, LEARNING_RATES, strict=True):
            warm = min(1.0, (step + 1) / WARM_UP)
            group["lr"] = warm * share * args.rate * LEARNING_RATES[name]
        x, picks = patches(images, args.batch_size, args.patch_size, generator)
        sigma = noise_levels(len(x), generator)
        noise = torch.randn(x.shape, generator=generator)
        y = x + sigma[:, None, None, None] * noise
        rtol, adjoint_rtol = args.rtol, 10 * (args.rtol or 0)
        if rtol is None:
            error = FIRST_ERROR * share
            rtol = tolerance(regulariser, error, ratio)
            adjoint_rtol = ADJOINT_SHARE * error
        solution = denoise(regulariser, y, sigma, rtol, adjoint_rtol)
        squares = (solution.x - x).square().flatten(1).mean(1)
        loss = (squares / typical(difficulties[picks], sigma)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        sizes = solution.x.detach().square().flatten(1).mean(1).sqrt()
        smallest = float((squares.detach().sqrt() / sizes.clamp_min(1e-2)).min())
        ratio = 0.9 * ratio + 0.1 * smallest
        products += int(solution.evaluations.sum())
        if solution.backward is not None:
            products += int(solution.backward.evaluations.sum())
        with torch.no_grad():
            for key, value in regulariser.state_dict().items():
                average[key].lerp_(value, 1 - AVERAGE)
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == last:
            spent = seconds + time.process_time() - start
            line = f"{step + 1} loss {sum(losses) / len(losses):.5f} rtol {rtol:.1e}"
            line += f" iterations {float(solution.iterations.float().mean()):.1f}"
            line += f" products {products / args.batch_size:.0f}"
            slope = float(spline.log_slope.detach().exp())
            line += f" mu {slope:.2f} seconds {spent:.0f}"
            if (step + 1) % VALIDATE_EVERY == 0 or step + 1 == args.steps:
                current = {k: v.clone() for k, v in regulariser.state_dict().items()}
                regulariser.load_state_dict(average)
                found = validate(
                    lambda y, sigma: denoise(regulariser, y, sigma, 3e-5, 1e-2).x,
                    held_out,
                    80,
                )
                regulariser.load_state_dict(current)
                line += f" validation {found}"
            print(line, flush=True)
            losses = []
            state = {
                "regulariser": regulariser.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average,
                "step": step + 1,
                "seconds": spent,
                "products": products,
                "ratio": ratio,
            }
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").rename(checkpoint)
    torch.save(average, args.output)


if __name__ == "__main__":
    main()
