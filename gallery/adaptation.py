r"""
Another operator than that of the training: adapting a model
============================================================

A network that was trained to undo one blur is asked to undo another.
Gilton, Ongie and Willett :footcite:p:`gilton2021model` have two answers
that need no ground truth. **Parametrise and perturb** trains the weights
:math:`\theta_0` on, on the measurements themselves,

.. math::

    \min_\theta \; \frac1m \|y - A_1 f(y; \theta, A_1)\|^2
    + \mu \|\theta - \theta_0\|^2,

which is :func:`deq.adapt <deepinv_equilibrium.adapt>`, and can adjust
parameters of an operator that is known in part. **Reuse and regularise**
leaves the weights as they are, and takes :math:`x - f(A_0 x)` for a
regulariser:
:class:`ReuseAndRegularise <deepinv_equilibrium.models.ReuseAndRegularise>`.

The first term can be brought down to nothing by a model that fits the
noise. With a known noise level the adaptation stops before that, by the
discrepancy principle, and this page shows what happens if it does not.

Nothing is downloaded. From a clone of the repository,
``python gallery/adaptation.py`` runs this page in less than two minutes
on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import deepinv as dinv
import matplotlib.pyplot as plt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import deepinv_equilibrium as deq

parser = argparse.ArgumentParser(
    description="Adapt models to another blur than that of their training.",
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
)
add = parser.add_argument
add("--steps", type=int, default=500, help="to train the network")
add("--unrolled-steps", type=int, default=150, help="the unrolled model")
add("--adapt-steps", type=int, default=240, help="at most, to adapt")
add("--split", default="test", help="of the photos that are restored")
add("--size", type=int, default=48, help="of the photos that are restored")
add("--seed", type=int, default=0, help="of networks, crops and noise")
add("--figure", default="adaptation.png", help="where it is written")
args = parser.parse_args()

torch.manual_seed(args.seed)
device = "cuda" if torch.cuda.is_available() else "cpu"
start = time.perf_counter()

# %%
# Two blurs, and one that is known in part
# ----------------------------------------
# Gaussian blurs and white noise of standard deviation 0.03. The width of
# the blur, in pixels, is a parameter of the operator, so that it can be
# adapted: a physics takes it in ``update_parameters``, where its filter
# and what follows from that are computed again.

NOISE_LEVEL, PSF_SIZE = 0.03, 13


def gaussian(width: Tensor) -> Tensor:
    """Return the filter, differentiable in its width."""
    r = torch.arange(PSF_SIZE, device=width.device) - PSF_SIZE // 2
    line = torch.exp(-(r**2) / (2 * width**2))
    filter_ = torch.outer(line, line)
    return (filter_ / filter_.sum())[None, None]


class GaussianBlur(dinv.physics.BlurFFT):
    """A blur that is known up to its width."""

    def __init__(self, width: float, size: int, seed: int) -> None:
        rng = torch.Generator(device).manual_seed(seed)
        noise = dinv.physics.GaussianNoise(NOISE_LEVEL, rng=rng)
        value = torch.tensor(width, device=device)
        super().__init__((1, size, size), gaussian(value), device, noise_model=noise)
        self.register_buffer("width", value)

    def update_parameters(self, width: Tensor | None = None, **kwargs):
        if width is not None:
            self.width = width
            kwargs["filter"] = gaussian(width)
        super().update_parameters(**kwargs)


TRAINED, TRUE, WRONG = 2.0, 1.0, 1.3
photos = deq.datasets.Photos(args.split, grey=True, img_size=args.size, crops=8)
truth = torch.stack([sample["x"] for sample in photos]).to(device)
nominal = GaussianBlur(TRAINED, args.size, args.seed)
physics = GaussianBlur(TRUE, args.size, args.seed + 1000)
y = physics(truth)

# %%
# Two models, trained for the wide blur
# -------------------------------------
# **The network** takes the measurement and returns the image: it knows of
# no operator, only its weights do. **The unrolled model** makes three
# steps of proximal gradient descent with a network for the proximal
# operator, and is told the operator. Each is trained for the wide blur,
# and once more for the narrow one, as an oracle which the others do not
# have. The crops for the training are of other photos than those that are
# restored, and settings were chosen with ``--split validation``.


def network() -> dinv.models.ArtifactRemoval:
    denoiser = dinv.models.DnCNN(1, 1, depth=4, nf=16, pretrained=None)
    return dinv.models.ArtifactRemoval(denoiser, mode="direct")


def unrolled() -> deq.optim.PGD:
    denoiser = dinv.models.DnCNN(1, 1, depth=4, nf=12, pretrained=None)
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        stepsize=1.0,
        sigma_denoiser=NOISE_LEVEL,
        max_iter=3,
        unfold=True,
        trainable_params=["stepsize"],
    )


def train(build, steps: int, width: float) -> dinv.models.Reconstructor:
    """Return a new model, trained for a blur of this width."""
    torch.manual_seed(args.seed)
    model, crop = build().to(device), 24
    optimizer = torch.optim.Adam(model.parameters(), 3e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 3e-3, total_steps=steps + 1, pct_start=0.1
    )
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    crops = deq.datasets.Photos(
        grey=True, img_size=crop, crops=8 * steps, seed=args.seed
    )
    dinv.Trainer(
        model,
        GaussianBlur(width, crop, args.seed + 1),
        optimizer,
        DataLoader(crops, batch_size=8),
        epochs=1,
        losses=dinv.loss.SupLoss(),
        metrics=None,
        online_measurements=True,
        grad_clip=0.1,
        check_grad=True,
        device=device,
        save_path=None,
        freq_update_progress_bar=50,
        non_blocking_transfers=False,
    ).train()
    return model.eval()


builders = {
    "network": (network, args.steps),
    "unrolled": (unrolled, args.unrolled_steps),
}
models, oracles = (
    {name: train(*each, width) for name, each in builders.items()}
    for width in (TRAINED, TRUE)
)

# %%
# Adapted, and where it stops
# ---------------------------
# The photos are adapted to together: one set of weights for the eight of
# them. It stops where the residual is at most ``tau=1.1`` times the noise
# (the default; theory asks for more than 1). On the validation photos
# ``tau=1`` was as good, within .1 dB. On those of the test it is not: with
# ``tau=1`` and ``weight=1e-4``, a first run of seed 0 ended .1 dB below
# the naive swap.
#
# "Not told" is the trained model with the operator of its training, and
# "naive" with the new one in its place; to the network they are the same.

MU, LAMBDA = 3e-3, 0.1
psnr = dinv.metric.PSNR()
images: dict[str, Tensor] = {"measured": y}


def adapt(model, physics, **arguments) -> deq.models.Adaptation:
    """Adapt to the measurements."""
    arguments = {"max_steps": args.adapt_steps, **arguments}
    return deq.adapt(model, y, physics, MU, **arguments)


adapted = {name: adapt(model, physics) for name, model in models.items()}
reuse = deq.models.ReuseAndRegularise
with torch.no_grad():
    for name, model in models.items():
        print(f"{name}: {adapted[name]}")
        images[f"{name}, not told"] = model(y, nominal)
        images[f"{name}, naive"] = model(y, physics)
        images[f"{name}, adapted"] = adapted[name].model(y, physics)
        reused = reuse(model, nominal, LAMBDA)
        images[f"{name}, reused"] = reused(y, physics)
        print("reused:", reused.solution.status[0].sentence)
        images[f"{name}, oracle"] = oracles[name](y, physics)

# %%
# Without the discrepancy principle, which ``noise_level=0`` turns off, the
# residual goes on to fall, and the PSNR with it.

budgets = [n for n in (10, 30, 80, 240) if n <= args.adapt_steps]
curve = []
for budget in budgets:
    further = adapt(models["network"], physics, max_steps=budget, rtol=0, noise_level=0)
    with torch.no_grad():
        fitted = further.model(y, physics)
    curve.append(psnr(fitted, truth).mean().item())
    level = further.discrepancy[-1].sqrt().item()
    print(f"{budget:4d} steps: residual {level:.4f}, {curve[-1]:.2f} dB")
images["network, not stopped"] = fitted

# %%
# An operator that is known in part
# ---------------------------------
# Now all are told a width of 1.3 in the place of 1. The adaptation takes
# the operator as it is told, or adapts its width too.

told = GaussianBlur(WRONG, args.size, args.seed)
widths = {}
for name, model in models.items():
    alone = adapt(model, told)
    jointly = adapt(model, told, physics_parameters=["width"])
    widths[name] = jointly.physics.width.item()
    print(f"{name}, jointly: width {widths[name]:.2f}, {jointly}")
    with torch.no_grad():
        images[f"{name}, wrong, naive"] = model(y, told)
        images[f"{name}, wrong, adapted"] = alone.model(y, told)
        images[f"{name}, wrong, jointly"] = jointly.model(y, jointly.physics)

# %%
# What it gives
# -------------

results = {name: {"PSNR": psnr(x, truth).mean().item()} for name, x in images.items()}
results |= {f"{name}, width found": {"pixels": width} for name, width in widths.items()}
for name, measures in results.items():
    for measure, value in measures.items():
        print(f"{name:24s}{value:7.2f} {measure}")

# %%
# Three seeds of the networks, the crops and the noise, run with
# ``python gallery/experiments/repeat.py adaptation``, say which of this
# is more than chance: the mean and the standard deviation over seeds.

record = Path(__file__).parent / "experiments" / "adaptation.json"
kept = json.loads(record.read_text("utf-8"))
over_seeds = {
    name: next(iter(measures.values())) for name, measures in kept["results"].items()
}
print(kept["command"])
for name, values in over_seeds.items():
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    print(f"{name:26s}{mean:7.2f} +- {deviation:.2f}")


def seen(better: str, worse: str) -> None:
    """Say in how many of the seeds one is above the other, and by how much."""
    pairs = zip(over_seeds[better], over_seeds[worse], strict=True)
    gains = [a - b for a, b in pairs]
    count = f"{sum(gain > 0 for gain in gains)} of {len(gains)} seeds"
    mean = statistics.mean(gains)
    print(f"{better} > {worse}: {count}, {mean:+.2f} dB")


for name in models:
    seen(f"{name}, adapted", f"{name}, naive")
    seen(f"{name}, reused", f"{name}, naive")
    seen(f"{name}, reused", f"{name}, adapted")
    seen(f"{name}, oracle", f"{name}, adapted")
    seen(f"{name}, wrong, jointly", f"{name}, wrong, naive")
    seen(f"{name}, wrong, jointly", f"{name}, wrong, adapted")
seen("network, adapted", "network, not stopped")

# %%
# **The network** loses 1.5 dB by the swap, against its oracle. That
# adaptation beats the naive swap was seen in two of three seeds, by half a
# decibel; in the third it is .05 dB below. There it was above after ten
# steps, and was not stopped before 67: the residual is one number for
# crops that differ, and the likely reason is that the noise of some is
# fitted while it waits for the others. Not stopped it is lower still, in
# all seeds. Reuse and regularise, which trains nothing, beats both in all
# seeds, .9 dB above the naive swap.
#
# **The unrolled model** is told the operator, and loses .2 dB. Its
# residual is that of the noise from the start, so that the adaptation
# stops before its first step and changes nothing. That adaptation beats
# the naive swap is *not* seen here: there is next to nothing to win. Nor
# does it gain by being reused: its three steps for the wide blur, within
# every step for the narrow one, lose what the swap keeps.
#
# **With the wrong width** the network gains more, and in all seeds, if the
# width is adapted with it; it comes from 1.3 to between .8 and 1. The
# unrolled model is .2 dB better with the wrong width than with the true
# one: it was trained for a wider blur still. Its residual is above the noise
# then, and the weights that bring it down cost PSNR, less so where the
# width can move too, towards the true one, to 1.15.

# %%
# The first photo, and what comes of fitting further than the noise. The
# line is where the discrepancy principle stops.

columns = ["measured"] + [
    f"network, {kind}"
    for kind in ("naive", "adapted", "not stopped", "reused", "oracle")
]
figure, axes = plt.subplots(2, 4, figsize=(13, 6.4), layout="constrained")
shown = {"truth": truth} | {name: images[name] for name in columns}
for axis, (name, image) in zip(axes.flat, shown.items(), strict=False):
    value = psnr(image[:1], truth[:1]).item()
    axis.set_title(name if name == "truth" else f"{name}, {value:.1f} dB")
    axis.imshow(image[0, 0].numpy(force=True), cmap="gray", vmin=0, vmax=1)
    axis.set_axis_off()
axis = axes.flat[-1]
axis.plot(budgets, curve, "o-", label="not stopped")
stop, reached = adapted["network"].steps, results["network, adapted"]["PSNR"]
axis.plot([max(stop, 1)], [reached], "*", markersize=14, label="stopped")
axis.axvline(max(stop, 1), color="grey", linewidth=0.8)
axis.set_xscale("log")
axis.set(xlabel="steps", ylabel="mean PSNR in dB", title="fitting the noise")
axis.legend()
figure.savefig(args.figure, dpi=110)
print(f"{args.figure}, {time.perf_counter() - start:.0f} seconds")
