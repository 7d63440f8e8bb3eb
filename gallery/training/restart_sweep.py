r"""Train restoration models by ReTune with several (K, T), as in Figures 2 and 3 of its
paper.

The problems are those of the page ``wavelet_restoration``: 90 % of the pixels are
missing, or each colour is blurred in its own direction; the noise has the standard
deviation .05. For each problem and each (K, T) of (1, 1), (1, 10), (10, 1) and
(10, 10), where K is the number of recorded steps and T that of the restarts, there are

- *(a)*: a weighted wavelet norm, whose weights are learned,
- *(b)*: a denoiser as the proximal operator, whose noise level and step size are
  learned,
- *(c)*: starts from (b) and learns the denoiser,
- *control*: starts from (b) and learns its two numbers for as many steps as (c).

The denoiser is the small DRUNet for white noise that the package ships, which was
trained on other photos of the same folder than those of the test. The models restore
the 128 x 128 centres of the first photos of the test folder with the K T steps of their
training, and at the fixed point. The loss of each training step is in the record, too.
The same command goes on after the last training that was finished::

    python gallery/training/restart_sweep.py BSD400 CBSD68 --weights restart_sweep \
        --record gallery/training/results/restart_sweep.json
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import deepinv as dinv
import measurement_record
import torch
from deepinv.physics import Physics
from image_folder import centres, load, patches, split
from torch import Tensor
from tqdm import tqdm

import deepinv_equilibrium as deq

SIZES = ((1, 1), (1, 10), (10, 1), (10, 10))
PROBLEMS = ("inpainting", "deblurring")
METHODS = ("(a)", "(b)", "control", "(c)")
STARTS = {"inpainting": (0.1, 1.8), "deblurring": (0.05, 1.0)}
STEPS = {"(a)": 600, "(b)": 300, "control": 600, "(c)": 600}
RATES = {"(a)": 5e-2, "(b)": 5e-2, "control": 5e-2, "(c)": 5e-5}
BATCH_SIZE, PATCH_SIZE = 2, 48


def physics_of(problem: str, size: tuple[int, ...], seed: int) -> Physics:
    """Return the physics, whose mask and noise follow a seed."""
    rng = torch.Generator().manual_seed(seed)
    noise = dinv.physics.GaussianNoise(0.05, rng=rng)
    if problem == "deblurring":
        return deq.physics.ChannelwiseBlur(noise_model=noise)
    return dinv.physics.Inpainting(size, mask=0.1, rng=rng, noise_model=noise)


def fill(y: Tensor, physics: Any) -> Tensor:
    """Return the image with its mean at the missing pixels."""
    mean = y.sum((1, 2, 3), keepdim=True) / physics.mask[:1].sum()
    return y + (1 - physics.mask) * mean


def wavelets(configuration: Any) -> Any:
    """Return an untrained (a)."""
    prior = deq.optim.WeightedWaveletPrior(3, initial_weight=0.1)
    return deq.models.WaveletReconstructor(prior, DEQ=configuration, normalised=True)


def plug_and_play(problem: str, configuration: Any) -> Any:
    """Return an untrained (b)."""
    sigma, tau = STARTS[problem]
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(deq.models.SmallDRUNet()),
        stepsize=tau,
        sigma_denoiser=sigma,
        custom_init=fill if problem == "inpainting" else None,
        trainable_params=["stepsize", "sigma_denoiser"],
        DEQ=configuration,
    )


def train(
    model: Any, method: str, problem: str, images: list[Tensor], seed: int
) -> list[float]:
    """Train a model in place and return the loss of each step."""
    if method == "(a)":
        parameters = list(model.parameters())
    else:
        learns_weights = method == "(c)"
        model.params_algo.requires_grad_(not learns_weights)
        model.prior.requires_grad_(learns_weights)
        parameters = [p for p in model.parameters() if p.requires_grad]
    steps = STEPS[method]
    optimizer = torch.optim.Adam(parameters, RATES[method], betas=(0.5, 0.9))
    loss, losses = dinv.metric.SNR(train_loss=True), []
    # The control sees the same batches as (c), which (b) has not seen.
    first = 10**6 * (2 * seed + (method in ("(c)", "control")))
    model.train()
    for step in tqdm(range(steps), desc=f"{problem} {method}", leave=False):
        generator = torch.Generator().manual_seed(first + step)
        x, _ = patches(images, BATCH_SIZE, PATCH_SIZE, generator)
        physics = physics_of(problem, tuple(x.shape[1:]), first + step)
        value = loss(model(physics(x), physics), x).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if method in ("(b)", "control"):
            # The gradient step on the data expands for larger values.
            largest = 1.8 / deq.spectrum(physics, tuple(x.shape[1:])).upper.value
            model.params_algo["stepsize"].clamp_(max=largest)
        losses.append(round(float(value.detach()), 3))
    return losses


@torch.no_grad()
def measure(model: Any, problem: str, x: Tensor, configuration: Any) -> list[float]:
    """Return the PSNR of each image."""
    trained, model.DEQ = model.DEQ, configuration
    model.eval()
    values = []
    for number, image in enumerate(x.split(1)):
        physics = physics_of(problem, tuple(image.shape[1:]), 10**8 + number)
        restored = model(physics(image), physics)
        values.append(round(float(dinv.metric.PSNR()(restored, image)), 3))
    model.DEQ = trained
    return values


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the rows of the table: means over images and seeds."""
    rows = [["problem", "K", "T", "method", "steps of the training", "fixed point"]]
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for runs in record.values():
        for key, entry in runs.items():
            found.setdefault(tuple(key.split(", ")), []).append(entry)
    for key, entries in found.items():
        row = list(key)
        for name in ("PSNR", "fixed point"):
            means = [sum(e[name]) / len(e[name]) for e in entries]
            middle = sum(means) / len(means)
            row.append(f"{middle:.2f} ({min(means):.2f} to {max(means):.2f})")
        rows.append(row)
    return rows


def main() -> None:
    """Train and measure what the record does not have yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("training_folder", type=Path, help="images to train on")
    parser.add_argument("folder", type=Path, help="images to measure on")
    parser.add_argument("--weights", type=Path, required=True, help="a folder")
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--problems", nargs="+", default=PROBLEMS, choices=PROBLEMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=16, help="to measure on")
    args = parser.parse_args()

    images, _ = split(args.training_folder, 3)
    photos = sorted(args.folder.iterdir())[: args.images]
    x = centres([load(photo, 3) for photo in photos], 128)
    record = measurement_record.read(args.record)
    accurate = deq.Equilibrium(
        deq.Anderson(rtol=1e-4, max_iter=300), on_failure="ignore"
    )
    args.weights.mkdir(exist_ok=True)
    for seed, problem, (layers, restarts) in product(args.seeds, args.problems, SIZES):
        runs = record.setdefault(str(seed), {})
        configuration = deq.ReTune(layers, restarts, on_failure="ignore")
        files = {
            method: args.weights / f"{problem}_{layers}_{restarts}_{method}_{seed}.pt"
            for method in METHODS
        }
        for method, file in files.items():
            key = f"{problem}, {layers}, {restarts}, {method}"
            if key in runs:
                continue
            torch.manual_seed(seed)
            if method == "(a)":
                model = wavelets(configuration)
            else:
                model = plug_and_play(problem, configuration)
            if method in ("(c)", "control"):
                model.load_state_dict(torch.load(files["(b)"], weights_only=True))
            losses = train(model, method, problem, images, seed)
            torch.save(model.state_dict(), file)
            runs[key] = {
                "losses": losses,
                "PSNR": measure(model, problem, x, configuration),
                "fixed point": measure(model, problem, x, accurate),
            }
            measurement_record.write(args.record, record)
    measurement_record.write_table(args.record, table(record))


if __name__ == "__main__":
    main()
