r"""Train deblurring models end to end and measure them on a folder of images.

Grey images are blurred, circularly, by a Gaussian of standard deviation 1.6 or a square
of 9 x 9 pixels, and white Gaussian noise is added. There is one model for each blur and
noise level, of each of these kinds:

- *ridge, convex*: gradient descent on ||A x - y||^2 / 2 + kappa ||x||^2 / 2 + lambda
  R(x), with the convex ridge regulariser R and kappa = 1e-3. It is proved to contract.
- *ridge, weakly convex*: gradient descent with the weakly convex regulariser, without
  kappa. It is proved to decrease its energy.
- *SmallDRUNet, equilibrium*: proximal gradient descent with the small DRUNet as the
  proximal operator. Nothing is proved.
- *SmallDRUNet, plug-and-play*: the same with the bundled weights, which are not trained
  for the task.
- *DRUNet, plug-and-play*, only if it is asked for by ``--kinds``: the same with the
  weights of deepinv, which are downloaded.

All of them learn the noise level of R or the denoiser, and lambda or the step size; all
but the plug-and-play ones learn their weights, too. The ridge models are trained with
the implicit gradient, the others with ReTune. The step size of the ridge models is
automatic: it stays in the interval of the proof in every step of the training. The loss
is the root mean square error.

The weights with the highest PSNR on the validation photos are kept, after every tenth
step or before the first. In a trial with the weakly convex regulariser at the noise
level .01, 40 steps lowered it: the Hessian at a critical point is nearly singular, and
the adjoint system was not solved to its tolerance of 1e-2 in 60 iterations.

The ridge models are solved to a relative residual of 1e-4, in training, too. At 1e-3
the PSNR of validation photos was 1.5 dB below that at 1e-4, and that .06 dB below that
at 1e-5. The others do not reach 1e-4: after 300 steps the residual of two images was
2e-4 and 5e-4, and their PSNR .6 and .9 dB below that after 20 steps. They are measured
after the 20 steps of their training.

The results for each image are written to a file after each image, and the weights
after each training; the same command goes on from there. The means are printed, and
written to a table::

    python gallery/training/deblurring.py BSD400 BSD68 --weights deblurring \
        --record gallery/training/results/deblurring.json
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from itertools import product
from pathlib import Path
from typing import Any

import deepinv as dinv
import measurement_record
import torch
from deepinv.physics import GaussianNoise, Physics
from image_folder import centres, load, patches, split
from torch import Tensor
from tqdm import tqdm

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import RidgeRegulariser, SmallDRUNet

NOISE_LEVELS = (0.01, 0.03, 0.05)
KAPPA = 1e-3
BATCH_SIZE = 4
# Learning rates of the weights and, as logarithms, of the parameters.
RATE_WEIGHTS = {"ridge": 5e-4, "SmallDRUNet": 1e-4}
RATE_PARAMETERS = {"ridge": 2e-2, "SmallDRUNet": 5e-2, "DRUNet": 5e-2}
RTOL, MAX_ITER = 1e-4, 300
VALIDATE_EVERY = 10
RETUNE = (5, 4)  # K and T of the models of which nothing is proved
KINDS = (
    "ridge, convex",
    "ridge, weakly convex",
    "SmallDRUNet, equilibrium",
    "SmallDRUNet, plug-and-play",
)
DOWNLOADED = "DRUNet, plug-and-play"
ALL_KINDS = (*KINDS, DOWNLOADED)
REFERENCE = "SmallDRUNet, equilibrium"
Record = dict[str, dict[str, dict[str, Any]]]
"""For each blur and noise level, and each kind of model, the results of each image."""


def kernel(name: str) -> Tensor:
    """Return a blur kernel of shape (1, 1, h, w)."""
    if name == "Gaussian":
        return dinv.physics.blur.gaussian_blur(sigma=1.6)
    return torch.full((1, 1, 9, 9), 1 / 81)


def blur(name: str, size: tuple[int, int], noise_level: float) -> Physics:
    """Return a circular blur of grey images, whose noise has a generator to seed."""
    noise = GaussianNoise(noise_level, rng=torch.Generator())
    return dinv.physics.BlurFFT((1, *size), kernel(name), noise_model=noise)


def build(kind: str, noise_level: float, configuration: deq.Equilibrium) -> Any:
    """Return a model before its training."""
    if not kind.startswith("ridge"):
        denoiser = dinv.models.DRUNet(1, 1) if kind == DOWNLOADED else SmallDRUNet(1)
        return deq.optim.PGD(
            data_fidelity=dinv.optim.L2(),
            prior=dinv.optim.PnP(denoiser),
            stepsize=1.0,
            sigma_denoiser=noise_level,
            trainable_params=["stepsize", "sigma_denoiser"],
            DEQ=configuration,
        )
    convex = kind == "ridge, convex"
    fidelity = deq.optim.RidgeL2(kappa=KAPPA) if convex else dinv.optim.L2()
    # R for noise of level s scales with s^2: with lambda = (noise / s)^2 it counts as
    # much as for denoising. The regularisers for much noise are better for deblurring.
    sigma = min(8 * noise_level, 0.15)
    return deq.optim.GD(
        data_fidelity=fidelity,
        prior=RidgeRegulariser(1, weak_convexity=0.0 if convex else 1.0),
        stepsize="auto",
        lambda_reg=(noise_level / sigma) ** 2,
        sigma_denoiser=sigma,
        trainable_params=["lambda", "sigma_denoiser"],
        DEQ=configuration,
    )


def train(
    kind: str,
    name: str,
    noise_level: float,
    images: tuple[list[Tensor], list[Tensor]],
    size: int,
    steps: int,
    output: Path,
) -> None:
    """Train a model end to end and write the weights that are best for validation."""
    family = kind.split(",")[0]
    solver = deq.Anderson(rtol=RTOL, max_iter=100)
    implicit = deq.Equilibrium(
        solver, deq.Implicit(deq.GMRES(rtol=1e-2, max_iter=60)), on_failure="ignore"
    )
    configuration = implicit if family == "ridge" else deq.ReTune(*RETUNE)
    model = build(kind, noise_level, configuration)
    groups = [{"params": model.params_algo.parameters(), "lr": RATE_PARAMETERS[family]}]
    weights = list(model.prior.parameters())
    if kind.endswith("plug-and-play"):
        for weight in weights:
            weight.requires_grad_(False)
    else:
        groups.append({"params": weights, "lr": RATE_WEIGHTS[family]})
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.95))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    training, held_out = images
    x_validation = centres(held_out, 2 * size)
    best = 0.0
    for step in tqdm(range(steps + 1), desc=f"{kind}, {name}, {noise_level}"):
        if step % VALIDATE_EVERY == 0 or step == steps:
            psnr = validate(model, name, noise_level, x_validation)
            print(f"{kind}, {name}, {noise_level}: step {step}, {psnr:.3f} dB")
            if psnr > best:
                best = psnr
                torch.save(model.state_dict(), output.with_suffix(".new"))
        if step == steps:
            break
        generator = torch.Generator().manual_seed(step)
        x, _ = patches(training, BATCH_SIZE, size, generator)
        physics = blur(name, (size, size), noise_level)
        physics.noise_model.rng_manual_seed(step)
        error = model(physics(x), physics) - x
        optimizer.zero_grad()
        error.square().flatten(1).mean(1).sqrt().mean().backward()
        optimizer.step()
        scheduler.step()
    output.with_suffix(".new").rename(output)


@torch.no_grad()
def validate(model: Any, name: str, noise_level: float, x: Tensor) -> float:
    """Return the mean PSNR on validation photos in dB."""
    physics = blur(name, (x.shape[-2], x.shape[-1]), noise_level)
    physics.noise_model.rng_manual_seed(0)
    return float(dinv.metric.PSNR()(model(physics(x), physics), x).mean())


@torch.no_grad()
def measure(model: Any, physics: Physics, x: Tensor) -> dict[str, float]:
    """Restore an image and return its figures."""
    y = physics(x)
    start = time.process_time()
    restored = model(y, physics)
    seconds = time.process_time() - start
    return {
        "PSNR": round(float(dinv.metric.PSNR()(restored, x)), 3),
        "SSIM": round(float(dinv.metric.SSIM()(restored, x)), 4),
        "steps": int(model.solution.iterations.max()),
        "residual": float(f"{float(model.solution.residual.max()):.1e}"),
        "seconds": round(seconds, 2),
    }


def claim(model: Any, physics: Physics, size: tuple[int, int]) -> dict[str, str]:
    """Return what is proved of a model."""
    certificate = deq.certify(model, physics, (1, *size))
    contracts = certificate.contracts
    return {
        "proved": str(certificate.convergence),
        "rate": f"{certificate.rate.value:.6f}" if contracts else "",
        "stability": f"{certificate.stability.value:.4g}" if contracts else "",
    }


def table(record: Record) -> list[list[str]]:
    """Return the rows of the table; the gap is the PSNR minus that of the equilibrium
    model of which nothing is proved."""
    rows = [["blur, noise", "model", "PSNR", "gap", "SSIM", "proved", "rate"]]
    rows[0] += ["stability", "steps", "seconds"]
    for setting, models in record.items():
        means = {
            kind: {
                name: statistics.mean(image[name] for image in entry["images"])
                for name in ("PSNR", "SSIM", "steps", "seconds")
            }
            for kind, entry in models.items()
        }
        for kind, entry in models.items():
            mean = means[kind]
            row = [setting, kind, f"{mean['PSNR']:.2f}"]
            reference = means.get(REFERENCE, mean)
            row += [f"{mean['PSNR'] - reference['PSNR']:+.2f}", f"{mean['SSIM']:.3f}"]
            row += [entry["proved"], entry["rate"], entry["stability"]]
            rows.append([*row, f"{mean['steps']:.0f}", f"{mean['seconds']:.1f}"])
    return rows


def main() -> None:
    """Train and measure, and write the record and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("training_folder", type=Path, help="images to train on")
    parser.add_argument("folder", type=Path, help="images to measure on")
    parser.add_argument("--weights", type=Path, required=True, help="a folder")
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=ALL_KINDS)
    parser.add_argument("--blurs", nargs="+", default=["Gaussian", "square"])
    parser.add_argument("--noise-levels", type=float, nargs="+", default=NOISE_LEVELS)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--patch-size", type=int, default=64)
    parser.add_argument("--images", type=int, help="the first ones; default: all")
    args = parser.parse_args()

    torch.manual_seed(0)
    args.weights.mkdir(exist_ok=True)
    photos = split(args.training_folder, 1)
    files = sorted(args.folder.iterdir())[: args.images]
    record: Record = measurement_record.read(args.record)
    for name, level, kind in product(args.blurs, args.noise_levels, args.kinds):
        file = f"{name}_{level}_{kind}.pt".replace(", ", "_").replace(" ", "_")
        weights = args.weights / file
        if not weights.exists():
            train(kind, name, level, photos, args.patch_size, args.steps, weights)
        max_iter = MAX_ITER if kind.startswith("ridge") else math.prod(RETUNE)
        configuration = deq.Equilibrium(
            deq.Anderson(rtol=RTOL, max_iter=max_iter), on_failure="ignore"
        )
        model = build(kind, level, configuration).eval()
        model.load_state_dict(torch.load(weights, weights_only=True))
        entry = record.setdefault(f"{name}, {level:g}", {}).setdefault(kind, {})
        for number, path in enumerate(tqdm(files, desc=f"{kind}, {name}, {level}")):
            x = load(path, 1)[None]
            size = (x.shape[-2], x.shape[-1])
            physics = blur(name, size, level)
            physics.noise_model.rng_manual_seed(number)
            # The kernels are symmetric: what is proved for the size of the first image
            # is proved for its transpose, which is the other size in BSD68.
            if "images" not in entry:
                entry |= claim(model, physics, size) | {"images": []}
            if len(entry["images"]) <= number:
                entry["images"].append(measure(model, physics, x))
                measurement_record.write(args.record, record)
    measurement_record.write_table(args.record, table(record))


if __name__ == "__main__":
    main()
