r"""
Quickstart: deblurring photos at equilibrium
============================================

A plug-and-play restoration is the fixed point of an iteration, here
of forward-backward with a denoiser :math:`\operatorname{D}_\sigma` in
the place of the proximal map,

.. math::

    x = \operatorname{D}_\sigma(x - \tau A^\top (A x - y)).

This page learns its parameters on photos and says, sample by sample,
how far from a fixed point every restoration is. It follows the
deblurring experiment of the ReTune paper
:footcite:p:`davy2025restarted`:

- **defaults**: the iteration as it comes,
- **(b)**: learn the noise level :math:`\sigma` and the step size
  :math:`\tau`, with the denoiser fixed,
- **(c)**: from there, learn the denoiser,
- **control**: spend the steps of (c) on (b) instead, so that (c) takes
  no credit for what more of (b) would have reached.

Nothing is downloaded. From a clone of the repository,
``python gallery/quickstart.py`` runs this page in less than two
minutes on two cores; ``--help`` lists what can be changed, and
``--denoiser drunet`` takes deepinv's large DRUNet instead.
"""

from __future__ import annotations

import argparse
import copy
import math
import time

import deepinv as dinv
import matplotlib.pyplot as plt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import deepinv_equilibrium as deq

parser = argparse.ArgumentParser(
    description="Deblur photos with a plug-and-play equilibrium model.",
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
)
add = parser.add_argument
add("-K", "--layers", type=int, default=5, help="iterations in a block")
add("-T", "--restarts", type=int, default=10, help="number of blocks")
add("--denoiser", default="small-drunet", help="drunet is downloaded")
add("--steps-b", type=int, default=20, help="optimiser steps of (b)")
add("--steps-c", type=int, default=30, help="of (c) and its control")
add("--seed", type=int, default=0, help="seed of the training")
add("--figure", default="quickstart.png", help="where it is written")
args = parser.parse_args()

torch.manual_seed(args.seed)
device = "cuda" if torch.cuda.is_available() else "cpu"
start = time.perf_counter()

# %%
# The problem
# -----------
# Every colour is blurred over 25 pixels in a direction of its own, red
# horizontally, green vertically and blue diagonally, and white noise of
# standard deviation 0.05 is added.

NOISE_LEVEL = 0.05
physics = deq.physics.ChannelwiseBlur(
    noise_model=dinv.physics.GaussianNoise(
        NOISE_LEVEL, rng=torch.Generator(device).manual_seed(args.seed)
    ),
    device=device,
)

# %%
# The photos come with scikit-image and are split by photo: the network
# and the parameters are learned on some, these settings were chosen on
# another, and what is printed below is measured on the centres of five
# that nothing was learned or chosen on.

photos = deq.datasets.Photos("test", img_size=96)
truth = torch.stack([sample["x"] for sample in photos]).to(device)
measured = physics(truth)

# %%
# The model
# ---------
# It is a model of deepinv, built as :class:`deepinv.optim.PGD` is. The
# last argument makes it a ReTune model: the block of :math:`K`
# iterations is applied :math:`T` times, and only the last application
# is recorded for the gradient.


def build(
    denoiser: dinv.models.Denoiser,
    restarts: int,
) -> deq.optim.PGD:
    """Return forward-backward at its default parameters."""
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        stepsize=1.0,
        sigma_denoiser=NOISE_LEVEL,
        trainable_params=["stepsize", "g_param"],
        DEQ=deq.ReTune(layers=args.layers, restarts=restarts),
    ).to(device)


denoiser = deq.plugins.create("denoisers", args.denoiser)
denoiser = denoiser.to(memory_format=torch.channels_last)  # faster
defaults = build(denoiser, args.restarts)

# %%
# Training
# --------
# The gradient step on the data is nonexpansive for
# :math:`\tau \leq 2 / \|A\|^2` only, and learning :math:`\tau` would go
# past that. A circular blur is diagonal in the Fourier domain, so
# :math:`\|A\|^2` is known exactly, and a hook of the optimiser projects
# :math:`\tau` after each of its steps. Parameters are learned as
# logarithms, which keeps them positive.
#
# The loss is the signal-to-noise ratio in decibels, which is the PSNR
# up to a constant of each photo. The paper's mean squared error is
# decided by the crops that are hardest to restore.

norm_squared = torch.fft.rfft2(physics.filter).abs().square().max()
LARGEST_STEP_SIZE = 1.8 / norm_squared.item()


def train(
    model: deq.optim.PGD,
    parameters: list[torch.nn.Parameter],
    lr: float,
    steps: int,
    seed: int,
) -> float:
    """Learn parameters of a model, in place; return the seconds."""

    def limit_step_sizes(*_: object) -> None:
        with torch.no_grad():
            for log_tau in model.params_algo["stepsize"].parameters():
                log_tau.clamp_(max=math.log(LARGEST_STEP_SIZE))

    # Little momentum: the few steps here must not overshoot.
    optimizer = torch.optim.Adam(parameters, lr=lr, betas=(0.5, 0.9))
    optimizer.register_step_post_hook(limit_step_sizes)
    crops = deq.datasets.Photos(
        "train",
        img_size=64,
        crops=4 * steps,
        seed=seed,
    )
    start = time.perf_counter()
    dinv.Trainer(
        model,
        physics,
        optimizer,
        DataLoader(crops, batch_size=4),
        epochs=1,
        losses=dinv.loss.SupLoss(dinv.metric.SNR(train_loss=True)),
        metrics=None,
        online_measurements=True,
        device=device,
        save_path=None,
        freq_update_progress_bar=2,
        non_blocking_transfers=False,
    ).train()
    return time.perf_counter() - start


# %%
# (b) learns the logarithms of :math:`\sigma` and :math:`\tau`.

model_b = copy.deepcopy(defaults)
model_b.prior.requires_grad_(False)
seconds = {"defaults": 0.0}
seconds["(b)"] = train(
    model_b,
    list(model_b.params_algo.parameters()),
    lr=5e-2,
    steps=args.steps_b,
    seed=2 * args.seed,
)

# %%
# (c) and its control go on from (b), on the same crops and for as many
# steps. (c) learns the weights of the denoiser and leaves
# :math:`\sigma` and :math:`\tau` as they are. Its learning rate is
# below the paper's 5e-5, with which the iteration settled less well on
# the validation photo.

control = copy.deepcopy(model_b)
seconds["control"] = train(
    control,
    list(control.params_algo.parameters()),
    lr=5e-2,
    steps=args.steps_c,
    seed=2 * args.seed + 1,
)

model_c = copy.deepcopy(model_b)
model_c.params_algo.requires_grad_(False)
model_c.prior.requires_grad_(True)
seconds["(c)"] = train(
    model_c,
    list(model_c.prior.parameters()),
    lr=2e-5,
    steps=args.steps_c,
    seed=2 * args.seed + 1,
)

# %%
# Held-out photos
# ---------------
# Each model restores the five photos twice: with the :math:`T` restarts
# that it was trained with, and with four times as many. A checkpoint
# does not depend on the number of restarts.

psnr = dinv.metric.PSNR()


@torch.no_grad()
def restore(
    model: deq.optim.PGD,
    restarts: int,
) -> tuple[Tensor, deq.Solution]:
    """Return restored photos and the report of the solve."""
    copied = build(copy.deepcopy(denoiser), restarts).eval()
    copied.load_state_dict(model.state_dict())
    return copied(measured, physics), copied.solution


models = {
    "defaults": defaults,
    "(b)": model_b,
    "control": control,
    "(c)": model_c,
}
T = args.restarts
at_t = {name: restore(model, T) for name, model in models.items()}
at_4t = {name: restore(model, 4 * T) for name, model in models.items()}

print("Mean PSNR of held-out photos in dB, and what was learned")
print("              T     4T   sigma    tau  seconds of training")
print(f"{'degraded':10s} {psnr(measured, truth).mean():.2f}")
for name, model in models.items():
    print(
        f"{name:10s} {psnr(at_t[name][0], truth).mean():.2f}"
        f"  {psnr(at_4t[name][0], truth).mean():.2f}"
        f"  {model.params_algo['g_param'][0]:.4f}"
        f"  {model.params_algo['stepsize'][0]:.3f}"
        f"  {seconds[name]:.0f}"
    )

# %%
# Two learned numbers gain about half a decibel on the defaults. The
# denoiser gains little more in so few steps: (c) and its control are
# within .05 dB. A longer run tells them apart at the :math:`T` that the
# models are trained with. ``python gallery/quickstart.py --steps-b 40
# --steps-c 150 --seed S`` takes about six minutes and gave
#
# ========  =====  =====  =====  =====  =====  =====
# seed        0             1             2
# --------  ------------  ------------  ------------
# restarts    T     4T      T     4T      T     4T
# ========  =====  =====  =====  =====  =====  =====
# defaults  28.23  28.25  28.17  28.20  28.20  28.22
# (b)       28.78  28.81  28.88  28.91  28.85  28.87
# control   28.79  28.81  28.89  28.91  28.85  28.88
# (c)       28.98  28.72  29.01  28.89  28.95  28.91
# ========  =====  =====  =====  =====  =====  =====
#
# After :math:`4T` restarts the gain of (c) is gone: the bundled
# denoiser was trained so that iterations with it settle, and learning
# through a fixed number of restarts spends some of that.
#
# The report
# ----------
# That can be read off the reports: this is the one of (c) after
# :math:`4T` restarts. The residual of a sample is how far another block
# would move it, relative to its size. ``COMPLETED`` says that the
# restarts that were asked for were made, and is no claim of
# convergence: that takes a tolerance,
# ``deq.ReTune(layers, restarts, rtol=1e-4)``, and reads ``CONVERGED``
# where it was met.

print(", ".join(photos.names))
print(at_4t["(c)"][1])

# %%
# What it looks like
# ------------------
# A larger part of one of the photos, and how the residuals of the five
# fall when the models go on past the :math:`T` restarts that they were
# trained with.

large = deq.datasets.Photos("test", img_size=184)[0]["x"][None]
large = large.to(device)
blurred = physics(large)
with torch.no_grad():
    images = {
        "truth": large,
        "degraded": blurred,
        "(b)": model_b(blurred, physics),
        "(c)": model_c(blurred, physics),
    }
figure, axes = plt.subplots(
    1,
    5,
    figsize=(14, 3.4),
    width_ratios=(1, 1, 1, 1, 1.5),
    layout="constrained",
)
for axis, (name, image) in zip(axes[:4], images.items(), strict=True):
    pixels = image[0].clamp(0, 1).permute(1, 2, 0)
    axis.imshow(pixels.numpy(force=True))
    axis.set_axis_off()
    value = f", {psnr(image, large).item():.2f} dB"
    axis.set_title(name if name == "truth" else name + value)
for name, (_, solution) in at_4t.items():
    residuals = solution.history.mean(1).numpy(force=True)
    blocks = range(1, len(residuals) + 1)
    axes[4].semilogy(blocks, residuals, label=name)
axes[4].axvline(T, color="grey", linestyle=":")
axes[4].set_title("mean residual of the five photos")
axes[4].set_xlabel(f"restarts (T = {T} dotted)")
axes[4].legend()
figure.savefig(args.figure, dpi=110)
print(f"{args.figure}, {time.perf_counter() - start:.0f} seconds")

# %%
# .. footbibliography::
