r"""
Wavelet denoising: what restarts and layers are worth
=====================================================

The first experiment of the ReTune paper
:footcite:p:`davy2025restarted`. Photos with much more noise in blue
than in red are denoised by

.. math::

    \hat x_\theta = \operatorname*{arg\,min}_x \tfrac12 \|x - y\|^2
    + \|\theta D x\|_{1,2},

with orthonormal wavelets :math:`D` and one weight for each scale and
orientation (:math:`\theta_B`, 7 numbers), or also for each colour
(:math:`\theta_{B,C}`, 13 numbers). The weights are learned through
forward-backward iterations in :math:`u = \theta D x`: :math:`T` times a
block of :math:`K`, of which the last is recorded for the gradient. The
page repeats Figure 1 of the paper: four pairs :math:`(K, T)`, and three
step sizes, as the order of the four depends on them,

- ``1.95/L``, with which the paper's figure is made,
- ``2/(mu+L)``, with which the iterations contract fastest,
- ``normalised``: 1.95/L with the weights of each scale divided by their
  minimum. The paper's figure has a "normalized step variant" that the
  paper does not define; this is a reading of it.

Nothing is downloaded. From a clone of the repository,
``python gallery/wavelet_denoising.py`` runs this page in less than two
minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import deepinv as dinv
import matplotlib.pyplot as plt
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

import deepinv_equilibrium as deq

parser = argparse.ArgumentParser(
    description="Learn the weights of a wavelet norm in 4 x 3 ways.",
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
)
add = parser.add_argument
add(
    "--steps",
    type=int,
    default=75,
    help="optimiser steps of each model",
)
add("--seed", type=int, default=0, help="of the crops and the noise")
add(
    "--figure",
    default="wavelet_denoising.png",
    help="where it is written",
)
args = parser.parse_args()

torch.manual_seed(args.seed)
device = "cuda" if torch.cuda.is_available() else "cpu"
start = time.perf_counter()

# %%
# The problem
# -----------
# The paper's noise, of standard deviation 0.1 in red, 0.25 in green and
# 0.5 in blue; batches of four crops of photos that come with
# scikit-image. What is printed is measured on five others.

noise = deq.physics.ChannelwiseGaussianNoise(
    (0.1, 0.25, 0.5),
    rng=torch.Generator(device).manual_seed(args.seed),
)
physics = dinv.physics.Denoising(noise, device=device)
crops = deq.datasets.Photos(
    "train",
    img_size=64,
    crops=4 * args.steps,
    seed=args.seed,
)
photos = deq.datasets.Photos("test", img_size=128)
truth = torch.stack([sample["x"] for sample in photos]).to(device)
measured = physics(truth)
clean = torch.stack([sample["x"] for sample in crops])
noisy = physics(clean.to(device)).cpu()  # the same for all models
pairs = [{"x": x, "y": y} for x, y in zip(clean, noisy, strict=True)]

# %%
# The models
# ----------
# The weights start at 1, where their logarithms are 0, and the
# iterations at :math:`u = D y`, as in the paper.

BLOCKS = ((1, 1), (1, 10), (10, 1), (10, 10))
STEP_SIZES = ("1.95/L", "2/(mu+L)", "normalised")
PRIORS = {"theta_B": None, "theta_BC": 3}


def build(
    channels: int | None,
    step_size: str,
    block: tuple[int, int],
) -> deq.models.WaveletReconstructor:
    """Return an untrained model."""
    prior = deq.optim.WeightedWaveletPrior(channels, initial_weight=1.0)
    model = deq.models.WaveletReconstructor(
        prior,
        DEQ=deq.ReTune(*block, on_failure="ignore"),
        stepsize="optimal" if step_size == "2/(mu+L)" else 1.95,
        normalised=step_size == "normalised",
    )
    return model.to(device)


# %%
# Training
# --------
# Adam with the paper's learning rate, on the mean squared error. The
# loss keeps the PSNR of every batch on the way.

psnr = dinv.metric.PSNR()


class RecordedError(dinv.loss.Loss):
    """The mean squared error, with a record of the PSNR."""

    def __init__(self) -> None:
        super().__init__()
        self.record: list[float] = []

    def forward(self, x: Tensor, x_net: Tensor, **_: object) -> Tensor:
        self.record.append(psnr(x_net.detach(), x).mean().item())
        return (x_net - x).square().mean()


def train(model: deq.models.WaveletReconstructor) -> list[float]:
    """Learn the weights in place; return the PSNR of every batch."""
    loss = RecordedError()
    dinv.Trainer(
        model,
        physics,
        torch.optim.Adam(model.parameters(), lr=5e-2),
        DataLoader(pairs, batch_size=4),
        epochs=1,
        losses=loss,
        metrics=None,
        device=device,
        save_path=None,
        show_progress_bar=False,
        verbose=False,
        non_blocking_transfers=False,
    ).train()
    model.eval()
    return loss.record


models, curves = {}, {}
runs = [(p, s, b) for p in PRIORS for s in STEP_SIZES for b in BLOCKS]
for run in tqdm(runs, desc="models"):
    models[run] = build(PRIORS[run[0]], *run[1:])
    curves[run] = torch.tensor(train(models[run]))

# %%
# What was learned
# ----------------
# The mean PSNR of the last 25 training batches; of the held-out photos;
# and of these again with the exact minimiser for the weights that were
# learned, which the prior's proximal operator is. Where the last two
# differ, the weights were not learned for the problem that is written
# above but for a number of iterations that does not solve it.

LAST = min(25, args.steps)
results = {}
with torch.no_grad():
    for run, model in models.items():
        restored = model(measured, physics)
        minimiser = model.prior.prox(measured)
        results[" ".join(map(str, run))] = {
            "training": curves[run][-LAST:].mean().item(),
            "held-out": psnr(restored, truth).mean().item(),
            "minimiser": psnr(minimiser, truth).mean().item(),
        }
print(f"PSNR in dB; noisy photos {psnr(measured, truth).mean():.2f}")
print(f"{'weights, step, (K, T)':32s}training  held-out  minimiser")
for name, row in results.items():
    columns = "".join(f"{value:10.2f}" for value in row.values())
    print(f"{name:30s}{columns}")

# %%
# Three seeds, and longer
# -----------------------
# The same after 200 steps, over three seeds of crops and noise, as
# ``gallery/experiments/repeat.py`` has kept it with the command below:
# means and standard deviations, and whether the order of the paper's
# figure, (10, 10) above (1, 10) and (10, 1), and these above (1, 1),
# was seen in the training with every seed.

folder = Path(__file__).parent / "experiments"
record = folder / "wavelet_denoising.json"
kept = json.loads(record.read_text("utf-8"))
print(kept["command"])
for name, row in kept["results"].items():
    columns = ""
    for values in map(torch.tensor, row.values()):
        columns += f"  {values.mean():5.2f} +- {values.std():.2f}"
    print(f"{name:30s}{columns}")


ORDER = [((10, 10), (1, 10)), ((10, 10), (10, 1))]
ORDER += [((1, 10), (1, 1)), ((10, 1), (1, 1))]


def trained(setting: str, block: tuple[int, int]) -> Tensor:
    """Return the PSNR in the training, of all seeds."""
    row = kept["results"][f"{setting} {block}"]
    return torch.tensor(row["training"])


for setting in (f"{p} {s}" for p in PRIORS for s in STEP_SIZES):
    print(setting)
    for better, worse in ORDER:
        gain = trained(setting, better) - trained(setting, worse)
        seen = "seen" if bool((gain > 0).all()) else "not seen"
        print(
            f"  {better} above {worse}: {gain.mean():+.2f} +- "
            f"{gain.std():.2f} dB, {seen} with every seed"
        )

# %%
# With :math:`\theta_{B,C}` the paper's order is seen with every seed
# and every step size. In the mean (10, 10) is .04 to .6 dB above (1, 10)
# and (10, 1), from .004 to .70 dB with single seeds, and these two are
# within .4 dB of each other. With 1.95/L they are .6 dB and more above
# (1, 1), and the normalised (1, 1) loses 8 to 9 dB. With 2/(mu+L) the
# training of (1, 1) diverges with two of the seeds; with the third it is
# .4 to .5 dB below them.
#
# With the 7 weights of :math:`\theta_B` there is little to be gained, and
# the order is seen with none of the step sizes. In the mean (10, 10) is
# at most .4 dB above (1, 10), and .05 dB above (10, 1) or level with it:
# normalised, it is below (10, 1) with one of the seeds. With 1.95/L and
# 2/(mu+L) (1, 1) is .1 to .3 dB above all of them. Its weights are those
# of a denoiser of one iteration, not those of the problem above, whose
# minimiser with them is 8 dB worse. As a
# rule it is with (10, 10) alone that what was trained is the minimiser:
# its last two columns agree, but for 1.95/L with :math:`\theta_{B,C}`,
# where 100 iterations are too few.
#
# The order is one of the training, as in the paper's figure. On the
# held-out photos (10, 10) is the best with :math:`\theta_{B,C}` and the
# two faster steps, and elsewhere (10, 1) is, by less than a decibel.
#
# The figure
# ----------
# The PSNR of the training batches, in running means over 25 steps, and
# one of the held-out photos.

COLOURS = dict(zip(BLOCKS, ("C3", "C2", "C1", "C0"), strict=True))
figure = plt.figure(figsize=(13, 10), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=(2, 1))
axes = top.subplots(2, 3, sharex=True, sharey="row")
smooth = torch.ones(1, 1, LAST) / LAST
for row, prior in zip(axes, PRIORS, strict=True):
    for axis, step_size in zip(row, STEP_SIZES, strict=True):
        axis.set_title(f"{prior}, {step_size}")
        for block, colour in COLOURS.items():
            curve = curves[prior, step_size, block]
            mean = torch.conv1d(curve[None, None], smooth)[0, 0]
            first = range(LAST, LAST + len(mean))
            axis.plot(curve, ".", ms=2, color=colour, alpha=0.4)
            axis.plot(first, mean, color=colour, label=str(block))
    row[0].set_ylabel("PSNR in dB")
for axis in axes[1]:
    axis.set_xlabel("optimiser steps")
axes[0, 0].legend(title="(K, T)", fontsize=8)
with torch.no_grad():
    images = {"truth": truth[:1], "noisy": measured[:1]}
    for prior, step_size in (
        ("theta_B", "1.95/L"),
        ("theta_BC", "1.95/L"),
        ("theta_BC", "normalised"),
    ):
        model = models[prior, step_size, (10, 10)]
        images[f"{prior}, {step_size}"] = model(measured[:1], physics)
row = bottom.subplots(1, 5)
for axis, (name, image) in zip(row, images.items(), strict=True):
    value = f"\n{psnr(image, truth[:1]).item():.2f} dB"
    axis.set_title(name if name == "truth" else name + value)
    pixels = image[0].clamp(0, 1).permute(1, 2, 0)
    axis.imshow(pixels.numpy(force=True))
    axis.set_axis_off()
figure.savefig(args.figure, dpi=110)
print(f"{args.figure}, {time.perf_counter() - start:.0f} seconds")

# %%
# .. footbibliography::
