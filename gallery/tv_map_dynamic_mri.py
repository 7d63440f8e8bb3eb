r"""
Dynamic MRI: one weight, two weights, a map
===========================================

A cine scan of a beating heart is sampled at a sixth of the usual rate,
and reconstructed by total variation,

.. math::

    \hat x = \operatorname*{arg\,min}_x \tfrac12 \|A x - y\|^2
    + \|\Lambda D x\|_1,

with the differences :math:`D x` in time and in space. This page learns
the weight :math:`\Lambda` in three ways, after
:footcite:t:`kofler2023learning`:

- **scalar**: one number :math:`\lambda`,
- **pair**: :math:`\lambda_t` for time and :math:`\lambda_{xy}` for space,
- **map**: both for every pixel of every frame, estimated from the
  measurement by a small network.

The solver, the training and its budget are the same for all three. The
network does not touch the image: whatever it says, the result is a
minimiser of the convex problem above.

Nothing is downloaded. From a clone of the repository,
``python gallery/tv_map_dynamic_mri.py`` runs this page in less than two
minutes on two cores.
"""

from __future__ import annotations

import argparse
import time

import deepinv as dinv
import matplotlib.pyplot as plt
import torch
from matplotlib.colors import LogNorm
from torch import Tensor
from torch.utils.data import DataLoader

import deepinv_equilibrium as deq

parser = argparse.ArgumentParser(
    description="Learn total variation weights for dynamic MRI.",
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
)
add = parser.add_argument
add("--steps", type=int, default=120, help="optimiser steps of each model")
add("--phantoms", type=int, default=4, help="held-out phantoms")
add("--iterations", type=int, default=128, help="of the solver, in the test")
add("--seed", type=int, default=0, help="seed of the training")
add("--figure", default="tv_map_dynamic_mri.png", help="where it is written")
args = parser.parse_args()

torch.manual_seed(args.seed)
device = "cuda" if torch.cuda.is_available() else "cpu"
start = time.perf_counter()

# %%
# The problem
# -----------
# Each frame has its own sixth of the columns of k-space, seen by four
# coils. The images are those of
# :class:`CinePhantom <deepinv_equilibrium.datasets.CinePhantom>`: a
# textured chest that stands still around a heart in motion. A phantom
# depends on its seed: those of the training, those on which the settings
# of this page were chosen, and those of the test are different ones.

SIZE = (2, 8, 48, 48)  # real and imaginary parts, frames, height, width
physics = deq.physics.dynamic_mri(
    SIZE, coils=4, acceleration=6, sigma=0.01, device=device
)
held_out = deq.datasets.CinePhantom(args.phantoms, SIZE, seed=2000)
truth = torch.stack([sample["x"] for sample in held_out]).to(device)
measured = physics(truth)

# %%
# The models
# ----------
# A primal-dual iteration is run for a fixed number of steps: 64 in the
# training, of which the last 16 are recorded (ReTune,
# :footcite:p:`davy2025restarted`), and twice as many in the test.
#
# All three start from constants that a first training on other phantoms
# had found. The convolutions of the network have no biases; with
# the initial values of He, features keep their size from one to the next,
# and with a last one of zeros the map starts from the pair.

PAIR = (0.012, 0.00045)


def build(tv_map: deq.models.TVMap) -> deq.models.TVMapReconstructor:
    """Return a model as it is trained."""
    return deq.models.TVMapReconstructor(
        tv_map,
        DEQ=deq.ReTune(layers=16, restarts=4),
        norm="componentwise",
        stepsize=1.8,
    ).to(device)


def network() -> deq.models.UNetTVMap:
    """Return a map that starts from the pair."""
    tv_map = deq.models.UNetTVMap(
        in_channels=2,
        directions=(0, 1, 1),
        positivity=deq.models.BoundedSigmoid(0.1),
        initial_weight=PAIR,
        padding=0,
    )
    for weight in tv_map.parameters():
        torch.nn.init.kaiming_normal_(weight, a=0.01)
    with torch.no_grad():
        tv_map.network.encoder[0][0].weight.mul_(4)  # images are below 1
        tv_map.network.output.weight.zero_()
    return tv_map


tv_maps = {
    "scalar": deq.models.ConstantTVMap((0, 0, 0), initial_weight=0.003),
    "pair": deq.models.ConstantTVMap((0, 1, 1), initial_weight=PAIR),
    "map": network(),
}
models = {name: build(tv_map) for name, tv_map in tv_maps.items()}

# %%
# Training
# --------
# Each model sees the same phantoms, one in a step, each with new noise.
# The loss is the signal-to-noise ratio in decibels. Step sizes of the
# solver stay as they are.


def train(model: deq.models.TVMapReconstructor, lr: float) -> float:
    """Learn the weights in place; return the seconds."""
    optimizer = torch.optim.Adam(model.tv_map.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    start = time.perf_counter()
    dinv.Trainer(
        model,
        physics,
        optimizer,
        DataLoader(deq.datasets.CinePhantom(args.steps, SIZE, seed=args.seed)),
        epochs=1,
        losses=dinv.loss.SupLoss(dinv.metric.SNR(train_loss=True)),
        metrics=None,
        online_measurements=True,
        device=device,
        save_path=None,
        freq_update_progress_bar=20,
        non_blocking_transfers=False,
    ).train()
    model.eval()
    return time.perf_counter() - start


for name, lr in (("scalar", 3e-2), ("pair", 3e-2), ("map", 5e-3)):
    seconds = train(models[name], lr)
    print(f"{name}: {args.steps} steps in {seconds:.0f} seconds")
print(tv_maps["scalar"])
print(tv_maps["pair"])

# %%
# Held-out phantoms
# -----------------
# PSNR and SSIM of the modulus, SSIM as the mean over the frames. The
# **oracle** is the best scalar of each phantom, found with the help of
# the phantom itself among twelve that differ by a fifth, for each metric.

psnr = dinv.metric.PSNR(complex_abs=True)
ssim = dinv.metric.SSIM(complex_abs=True)


@torch.no_grad()
def reconstruct(tv_map: deq.models.TVMap) -> Tensor:
    """Return what the held-out measurements give with such weights."""
    model = build(tv_map)
    model.max_iter = args.iterations
    return model(measured, physics)


def scores(x: Tensor) -> Tensor:
    """Return the PSNR and the SSIM of each series, of shape (2, B)."""
    similarity = [ssim(x[:, :, t], truth[:, :, t]) for t in range(x.shape[2])]
    return torch.stack([psnr(x, truth), torch.stack(similarity).mean(0)])


images = {name: reconstruct(tv_map) for name, tv_map in tv_maps.items()}
results = {name: scores(x) for name, x in images.items()}
grid = [6e-4 * 1.2**k for k in range(12)]
tried = torch.stack(
    [scores(reconstruct(deq.models.ConstantTVMap((0, 0, 0), w))) for w in grid]
)
results = {
    "zero-filled": scores(physics.A_adjoint(measured)),
    "scalar": results["scalar"],
    "oracle": tried.amax(0),
    "pair": results["pair"],
    "map": results["map"],
}
header = "".join(f"{i:>8d}" for i in range(args.phantoms)) + "    mean"
for metric, (title, digits) in enumerate((("PSNR in dB", 2), ("SSIM", 3))):
    print(f"{title:12s}{header}")
    for name, values in results.items():
        row = [*values[metric].tolist(), values[metric].mean().item()]
        print(f"{name:12s}" + "".join(f"{value:8.{digits}f}" for value in row))
best = [grid[i] for i in tried[:, 0].argmax(0).tolist()]
print("weights of the oracle " + " ".join(f"{w:.5f}" for w in best))

# %%
# What it looks like
# ------------------
# A frame of the first phantom, and under it the row of pixels through
# the heart as time goes down.

with torch.no_grad():
    weights = models["map"].parameter_map(measured, physics)[0, 0]
shown = {"truth": truth, "zero-filled": physics.A_adjoint(measured), **images}
FRAME, ROW = SIZE[1] // 2, SIZE[2] // 2 - 2
figure, axes = plt.subplots(
    2,
    7,
    figsize=(14, 4.6),
    height_ratios=(2, 1),
    layout="constrained",
)
for column, (name, image) in zip(axes.T, shown.items(), strict=False):
    modulus = image[0].norm(dim=0).numpy(force=True)
    column[0].imshow(modulus[FRAME], cmap="gray", vmin=0, vmax=1)
    column[1].imshow(modulus[:, ROW], cmap="gray", vmin=0, vmax=1, aspect="auto")
    value = f", {results[name][0, 0]:.1f} dB" if name in results else ""
    column[0].set_title(name + value)
titles = (r"$\Lambda_t$", r"$\Lambda_{xy}$")
for column, title, weight in zip(axes.T[5:], titles, weights[:2], strict=True):
    field = weight.numpy(force=True)
    norm = LogNorm(field.min(), field.max())
    drawn = column[0].imshow(field[FRAME], norm=norm)
    column[1].imshow(field[:, ROW], norm=norm, aspect="auto")
    column[0].set_title(f"map: {title}")
    figure.colorbar(drawn, ax=column, shrink=0.8)
for axis in axes.flat:
    axis.set_axis_off()
figure.savefig(args.figure, dpi=110)
print(f"{args.figure}, {time.perf_counter() - start:.0f} seconds")
