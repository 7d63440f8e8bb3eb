r"""
LISTA: as good as many iterations in a few layers
=================================================

Sparse coding looks for a signal with few entries that explains a
measurement,

.. math::

    \hat z \in \operatorname*{arg\,min}_z \tfrac12 \|A z - y\|^2
    + \lambda \|z\|_1,

by iterative soft thresholding (ISTA), which is written like the layers
of a network,

.. math::

    z_{k+1} = \mathcal{T}_{\tau \lambda}(W_t z_k + W_e y), \qquad
    W_t = I - \tau A^\top A, \quad W_e = \tau A^\top .

With a budget of :math:`K` layers one can do better than to stop ISTA
after :math:`K` iterations: learn the matrices and thresholds from
examples (LISTA :footcite:p:`gregor2010learning`), the same ones in all
layers (*tied*), or each layer's own (*untied*). Here this is done twice:

- with **matrices**, for signals whose sparse entries are known, and
- with **filters**, to denoise photos by coefficients that are sparse in
  a convolutional dictionary.

Either network starts as ISTA, exactly, and learns from there. Nothing is
downloaded. From a clone of the repository, ``python gallery/lista.py``
runs this page in less than two minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import mean, stdev

import deepinv as dinv
import matplotlib.pyplot as plt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import (
    ISTA,
    LISTA,
    ConvolutionalFrame,
    ConvolutionalLISTA,
    DenseFrame,
)

parser = argparse.ArgumentParser(
    description="Learn iterative soft thresholding.",
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
)
add = parser.add_argument
add("--steps", type=int, default=400, help="optimiser steps with matrices")
add("--photo-steps", type=int, default=120, help="and with filters")
add("--layers", type=int, nargs="+", default=[2, 4, 8, 16], help="K")
add("--photo-layers", type=int, nargs="+", default=[2, 5], help="K")
add("--seed", type=int, default=0, help="of matrix, data and noise")
add("--figure", default="lista.png", help="where it is written")
args = parser.parse_args()

torch.manual_seed(args.seed)
device = "cuda" if torch.cuda.is_available() else "cpu"
start = time.perf_counter()
results: dict[str, dict[str, float]] = {}

# %%
# Sparse signals
# --------------
# Signals of 100 entries, one in ten of which is not zero, are measured by
# 50 random projections. The error is relative and in decibels,
#
# .. math::
#
#     \operatorname{NMSE} = 10 \log_{10} \frac
#     {\sum \|\hat z - z\|^2}{\sum \|z\|^2} .

M, N, DENSITY = 50, 100, 0.1
matrix = torch.randn(M, N, device=device)
matrix /= matrix.norm(dim=0)
projections = dinv.physics.LinearPhysics(
    A=lambda z, **_: z @ matrix.mT, A_adjoint=lambda y, **_: y @ matrix
)


def draw(count: int, seed: int) -> Tensor:
    """Return sparse signals."""
    rng = torch.Generator().manual_seed(seed)
    mask = torch.rand(count, N, generator=rng) < DENSITY
    return torch.randn(count, N, generator=rng) * mask


def nmse(found: Tensor, truth: Tensor) -> float:
    """Return the relative error in decibels."""
    error = (found - truth).square().sum() / truth.square().sum()
    return 10 * error.log10().item()


SEEDS = 1000 * args.seed
training = draw(128 * args.steps, SEEDS)
validation = draw(200, SEEDS + 1).to(device)
signals = draw(500, SEEDS + 2).to(device)

# %%
# What :class:`ISTA <deepinv_equilibrium.models.ISTA>` reaches after
# :math:`K` iterations depends on :math:`\lambda`, which is chosen for
# each :math:`K` on other signals than those of the test. The frame is
# the identity, and frozen: the coefficients are the result.

identity = DenseFrame(torch.eye(N)).requires_grad_(False).to(device)
GRID = [0.01 * 2**i for i in range(6)]


@torch.no_grad()
def ista(iterations: int) -> float:
    """Return the error of the best ISTA."""

    def error(weight: float, truth: Tensor) -> float:
        model = ISTA(identity, weight, max_iter=iterations)
        y = projections.A(truth)
        return nmse(model.to(device)(y, projections), truth)

    best = min(GRID, key=lambda weight: error(weight, validation))
    return error(best, signals)


for iterations in (*args.layers, 100):
    results[f"ISTA({iterations})"] = {"NMSE": ista(iterations)}

# %%
# Learned layers
# --------------
# :class:`LISTA <deepinv_equilibrium.models.LISTA>` starts as ISTA with
# :math:`\lambda = 0.1`. Tied or not, it sees the same signals for as many
# steps. The more layers, the smaller the learning rate.


def train(
    model: dinv.models.Reconstructor,
    physics: dinv.physics.LinearPhysics,
    data: Tensor,
    batch_size: int,
    lr: float,
) -> None:
    """Learn in place, from each sample once."""
    steps = len(data) // batch_size
    optimizer = torch.optim.Adam(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=steps + 1, pct_start=0.1
    )
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    dataset = dinv.datasets.TensorDataset(x=data, use_dict_output=True)
    dinv.Trainer(
        model.to(device),
        physics,
        optimizer,
        DataLoader(dataset, batch_size=batch_size),
        epochs=1,
        losses=dinv.loss.SupLoss(),
        metrics=None,
        online_measurements=True,
        grad_clip=1.0,
        check_grad=True,
        device=device,
        save_path=None,
        freq_update_progress_bar=100,
        verbose=False,
        non_blocking_transfers=False,
    ).train()
    model.eval()


KINDS = {"tied": True, "untied": False}
for layers in args.layers:
    for kind, tied in KINDS.items():
        lista = LISTA(identity, projections, 0.1, layers, tied)
        train(lista, projections, training, 128, 0.012 / layers**0.5)
        with torch.no_grad():
            found = lista(projections.A(signals), projections)
        results[f"LISTA({layers}), {kind}"] = {"NMSE": nmse(found, signals)}
    names = [name for name in results if f"({layers})" in name]
    row = [f"{name} {results[name]['NMSE']:.2f}" for name in names]
    print("NMSE in dB: " + ", ".join(row))
print(f"ISTA(100) {results['ISTA(100)']['NMSE']:.2f}")

# %%
# Photos
# ------
# A photo is not sparse, but it has few coefficients in a frame: here
# products of cosines on 5 x 5 pixels, at every position, which are a
# Parseval frame to start from. The noise has the standard deviation 0.1.
# The mean of a patch is not penalised: its threshold is 0.
#
# :class:`ConvolutionalLISTA
# <deepinv_equilibrium.models.ConvolutionalLISTA>` learns analysis and
# synthesis filters and a threshold for each filter. Its layers hold the
# physics, so that it can be trained for any linear one and on images of
# any size. ISTA has its weight from validation photos, for each
# :math:`K`. In a Parseval frame, and with no physics but the identity,
# few iterations lead far; what is left to learn are the filters.

noise = torch.Generator(device).manual_seed(args.seed)
denoising = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1, rng=noise))
SIZE, BATCH = 48, 8


def crops(split: str, count: int, size: int) -> Tensor:
    """Return crops of grey photos."""
    photos = deq.datasets.Photos(
        split, grey=True, img_size=size, crops=count, seed=args.seed
    )
    return torch.stack([sample["x"] for sample in photos])


photos = crops("train", BATCH * args.photo_steps, SIZE)
checked = crops("validation", 8, 96).to(device)
tested = crops("test", 15, 96).to(device)
checked_y, tested_y = denoising(checked), denoising(tested)
psnr = dinv.metric.PSNR()
frame = ConvolutionalFrame(in_channels=1, kernel_size=5)


def weights(weight: float) -> list[float]:
    """Return those of all filters: the first is the mean."""
    return [0.0] + [weight] * (frame.atoms - 1)


def denoise(model: dinv.models.Reconstructor, y: Tensor) -> Tensor:
    """Return the photos without the noise."""
    with torch.no_grad():
        return model.to(device)(y, denoising)


PHOTO_GRID = [0.01 * 1.5**i for i in range(5)]
images = {"noisy": tested_y}
for layers in args.photo_layers:
    score, weight = max(
        (psnr(denoise(model, checked_y), checked).mean().item(), w)
        for w in PHOTO_GRID
        for model in [ISTA(frame, weights(w), max_iter=layers)]
    )
    print(f"ISTA({layers}), weight {weight:.3f} on validation photos")
    model = ISTA(frame, weights(weight), max_iter=layers)
    images[f"photos: ISTA({layers})"] = denoise(model, tested_y)
    for kind, tied in KINDS.items():
        learned = ConvolutionalLISTA(frame, weights(weight), layers, tied)
        train(learned, denoising, photos, BATCH, 5e-3)
        name = f"photos: LISTA({layers}), {kind}"
        images[name] = denoise(learned, tested_y)
for name, image in images.items():
    value = psnr(image, tested).mean().item()
    results.setdefault(name, {})["PSNR"] = value
    print(f"{name:28s} {value:.2f} dB")

# %%
# Three seeds
# -----------
# Matrix, signals, noise, crops and start were drawn anew for each seed;
# the mean and the standard deviation of the results are kept in the
# repository.

kept = Path(__file__).parent / "experiments" / "lista.json"
if kept.exists():
    record = json.loads(kept.read_text("utf-8"))
    print(record["command"])
    for name, measures in record["results"].items():
        for measure, values in measures.items():
            spread = f"{mean(values):7.2f} +- {stdev(values):.2f} dB"
            print(f"{name:28s} {measure} {spread}")


def seen(better: str, worse: str, measure: str) -> None:
    """Print in how many seeds one is above the other."""
    kept_results = record["results"]
    first, second = (kept_results[name][measure] for name in (better, worse))
    sign = -1 if measure == "NMSE" else 1  # an error is better when lower
    count = sum(sign * a > sign * b for a, b in zip(first, second, strict=True))
    print(f"{better} better than {worse}: {count} of {len(record['seeds'])}")


if kept.exists():
    for layers in (2, 4, 8, 16):
        seen(f"LISTA({layers}), tied", f"ISTA({layers})", "NMSE")
        seen(f"LISTA({layers}), untied", f"LISTA({layers}), tied", "NMSE")
    seen("LISTA(16), untied", "ISTA(100)", "NMSE")
    for layers in (2, 5):
        network = f"photos: LISTA({layers}), "
        seen(network + "tied", f"photos: ISTA({layers})", "PSNR")
        seen(network + "untied", network + "tied", "PSNR")
    seen("photos: LISTA(5), untied", "photos: LISTA(2), untied", "PSNR")

# %%
# With matrices both orderings that are expected were seen in every seed:
# :math:`K` learned layers are far below :math:`K` iterations, by 4 to 8
# dB, and untied layers are below tied ones, by .5 dB for two of them and
# by 2 dB for 16. Eight untied layers are as good as 16 tied ones, and 16
# untied ones are below 100 iterations of ISTA.
#
# With filters the same orderings were seen, by about 1 dB over ISTA. But
# more layers did not help: five are below two, for ISTA as for what
# starts there. The minimiser that more iterations come nearer to is no
# better an image, as soft thresholds bias large coefficients, and 120
# steps are few to train five layers from there.

# %%
# What it looks like
# ------------------

figure = plt.figure(figsize=(13, 4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(1, 2))
axis = left.subplots()
for kind in ("ISTA({})", "LISTA({}), tied", "LISTA({}), untied"):
    values = [results[kind.format(k)]["NMSE"] for k in args.layers]
    label = kind.replace("({})", "")
    axis.plot(args.layers, values, "o-", label=label)
best = results["ISTA(100)"]["NMSE"]
axis.axhline(best, color="gray", ls="--", label="ISTA(100)")
axis.set_xscale("log", base=2)
axis.set_xlabel("layers K")
axis.set_ylabel("NMSE in dB")
axis.legend()
most = args.photo_layers[-1]
shown = [
    "noisy",
    f"photos: ISTA({most})",
    f"photos: LISTA({most}), tied",
    f"photos: LISTA({most}), untied",
]
for axis, name in zip(right.subplots(1, 4), shown, strict=True):
    pixels = images[name][0, 0].numpy(force=True)
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    value = psnr(images[name][:1], tested[:1]).item()
    axis.set_title(f"{name.removeprefix('photos: ')}\n{value:.2f} dB")
    axis.set_axis_off()
figure.savefig(args.figure, dpi=110)
print(f"{args.figure}, {time.perf_counter() - start:.0f} seconds")
