r"""Train DE-GRAD with the implicit and with the Jacobian-free gradient, and compare.

This is Figure 1 of "Training implicit networks for image deblurring using Jacobian-free
backpropagation", for both gradients: training and test losses over the epochs. Colour
photos are blurred as in the paper, circularly by Gaussian kernels of 5 x 5 pixels with
variance 1 or 9 x 9 pixels with variance 5, with white Gaussian noise of standard
deviation .01. The step is x - eta (A^T (A x - y) + S(x)) with the step size eta = .9
and S = lambda (I - D), where D is a network that contracts by .99. The step hardly
contracts: the rate that is proved for all weights is 1 - .01 eta lambda = .9991, and it
is .9933 with random weights. The network has five layers of 24 channels and was trained
to denoise; its weights and lambda are learned with the mean squared error, as in the
paper.

Both trainings have the same start, batches, noise and optimiser. Before
the first and after each epoch, the record has the mean PSNR of the test photos, and for
fixed training photos the cosine of the angle between both gradients in the weights, at
the weights of that epoch; and for each epoch the mean training loss and the processor
time. A checkpoint is written after each epoch, and the
same command goes on from it::

    python gallery/training/jacobian_free.py BSD400 CBSD68 --weights jacobian_free \
        --record gallery/training/results/jacobian_free.json
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import deepinv as dinv
import measurement_record
import torch
import training_loop
from deepinv.physics import GaussianNoise, Physics
from image_folder import centres, load, patches, split
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import BoundedDnCNN
from deepinv_equilibrium.presets import de_grad

BLURS = {"5x5": (5, 1.0), "9x9": (9, 5.0)}
NOISE_LEVEL, STEPSIZE, WEIGHT = 0.01, 0.9, 0.1
CROP, TEST_SIZE = 32, 64
EPOCHS, EPOCH, BATCH_SIZE = 60, 50, 8
RATE = 1e-3
PRETRAINING = 1500
SOLVER = deq.Anderson(rtol=1e-4, max_iter=100)
ADJOINTS = {
    "implicit": deq.Implicit(deq.GMRES(rtol=1e-2, max_iter=60)),
    "Jacobian-free": deq.JacobianFree(),
}


def blurring(blur: str, size: int, seed: int) -> Physics:
    """Return the physics of square images, whose noise follows a seed."""
    width, variance = BLURS[blur]
    axis = torch.arange(width) - width // 2
    profile = torch.exp(-axis.square() / (2 * variance))
    kernel = profile[:, None] * profile
    noise = GaussianNoise(NOISE_LEVEL, rng=torch.Generator().manual_seed(seed))
    return dinv.physics.BlurFFT(
        (3, size, size), (kernel / kernel.sum())[None, None], noise_model=noise
    )


def build(adjoint: str) -> Any:
    """Return a model before its training."""
    network = BoundedDnCNN(epsilon=0.99, residual=False, depth=5, filters=24)
    return de_grad(
        network,
        SOLVER,
        ADJOINTS[adjoint],
        on_failure="ignore",
        stepsize=STEPSIZE,
        lambda_reg=WEIGHT,
        trainable_params=["lambda"],
    )


def batch_of(images: list[Tensor], generator: torch.Generator) -> Tensor:
    """Return random crops."""
    return patches(images, BATCH_SIZE, CROP, generator)[0]


def pretrain(model: Any, images: list[Tensor], output: Path) -> None:
    """Train the network to denoise, as the paper does for S."""

    def loss(step: int, generator: torch.Generator) -> Tensor:
        x = batch_of(images, generator)
        noise = 0.05 * torch.randn(x.shape, generator=generator)
        return (network(x + noise) - x).square().mean()

    network = model.prior[0].denoiser
    checkpoint = output.with_suffix(".checkpoint")
    training_loop.train(network, loss, PRETRAINING, RATE, checkpoint)
    torch.save(network.state_dict(), output)


def restoration_loss(model: Any, x: Tensor, physics: Physics) -> Tensor:
    """Return the mean squared error."""
    return (model(physics(x), physics) - x).square().mean()


def training_loss(
    model: Any, images: list[Tensor], blur: str, seed: int
) -> Callable[[int, torch.Generator], Tensor]:
    """Return the loss of a training step."""

    def loss(step: int, generator: torch.Generator) -> Tensor:
        physics = blurring(blur, CROP, 10**6 * seed + step)
        return restoration_loss(model, batch_of(images, generator), physics)

    return loss


def cosine(model: Any, x: Tensor, blur: str) -> float:
    """Return the cosine of the angle between both gradients in the weights."""
    gradients = []
    for adjoint in ADJOINTS.values():
        copied = copy.deepcopy(model)
        copied.DEQ = deq.Equilibrium(SOLVER, adjoint, on_failure="ignore")
        weights = list(copied.prior.parameters())
        loss = restoration_loss(copied, x, blurring(blur, CROP, 0))
        found = torch.autograd.grad(loss, weights)
        gradients.append(torch.cat([gradient.flatten() for gradient in found]))
    return float(torch.cosine_similarity(*gradients, dim=0))


@torch.no_grad()
def test_psnr(model: Any, x: Tensor, blur: str) -> float:
    """Return the mean PSNR of test photos in dB."""
    physics = blurring(blur, TEST_SIZE, 1)
    return float(dinv.metric.PSNR()(model(physics(x), physics), x).mean())


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the rows of the table: the last epoch, the spread over seeds and the
    smallest cosine of any epoch."""
    rows = [["blur", "gradient", "test PSNR", "training loss", "smallest cosine"]]
    rows[0].append("seconds")
    for blur, adjoint in product(BLURS, ADJOINTS):
        runs = [run[adjoint] for run in record[blur].values()]
        row = [blur, adjoint]
        for name, digits in (("PSNR", 2), ("loss", 6)):
            last = [run[name][-1] for run in runs]
            row.append(measurement_record.mean_and_spread(last, digits))
        row.append(f"{min(min(run['cosine']) for run in runs):.3f}")
        rows.append([*row, f"{statistics.mean(sum(r['seconds']) for r in runs):.0f}"])
    return rows


def main() -> None:
    """Train and measure, and write the record and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="images to train on")
    parser.add_argument("test_folder", type=Path, help="images to measure on")
    parser.add_argument("--weights", type=Path, required=True, help="a folder")
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()

    args.weights.mkdir(exist_ok=True)
    images, _ = split(args.folder, 3)
    files = sorted(args.test_folder.iterdir())[::4]
    test = centres([load(file, 3) for file in files], TEST_SIZE)
    fixed = batch_of(images, torch.Generator().manual_seed(10**6))
    record: dict[str, Any] = measurement_record.read(args.record)
    for seed, blur, adjoint in product(args.seeds, BLURS, ADJOINTS):
        torch.manual_seed(seed)
        model = build(adjoint)
        denoiser = args.weights / f"denoiser_{seed}.pt"
        if not denoiser.exists():
            pretrain(model, images, denoiser)
        saved = torch.load(denoiser, weights_only=True)
        model.prior[0].denoiser.load_state_dict(saved)
        loss = training_loss(model, images, blur, seed)
        run = record.setdefault(blur, {}).setdefault(str(seed), {})
        empty: dict[str, list[float]] = {
            name: [] for name in ("loss", "PSNR", "cosine", "seconds")
        }
        curves = run.setdefault(adjoint, empty)
        checkpoint = args.weights / f"{blur}_{seed}_{adjoint}.checkpoint"
        for epoch in range(len(curves["PSNR"]), EPOCHS + 1):
            found = {}
            if epoch:
                start = time.process_time()
                losses = training_loop.train(
                    model, loss, EPOCHS * EPOCH, RATE, checkpoint, epoch * EPOCH
                )
                found["loss"] = statistics.mean(losses[-EPOCH:])
                found["seconds"] = time.process_time() - start
            found["PSNR"] = test_psnr(model, test, blur)
            found["cosine"] = cosine(model, fixed, blur)
            for name, value in found.items():
                curves[name].append(float(f"{value:.6g}"))
            measurement_record.write(args.record, record)
    measurement_record.write_table(args.record, table(record))


if __name__ == "__main__":
    main()
