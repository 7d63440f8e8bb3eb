r"""
Projected gradient descent: classical, unrolled, at equilibrium
===============================================================

Nonnegative least squares with Tikhonov's regularisation,

.. math::

    \hat x = \operatorname*{arg\,min}_{x \geq 0} \tfrac12 \|A x - y\|^2
    + \tfrac\lambda2 \|x\|^2,

is the first iteration that slides on deep learning for inverse problems
turn into a network,

.. math::

    x_{k+1} = P_{x \geq 0} \bigl( (1 - \tau \lambda) x_k
    - \tau A^\top (A x_k - y) \bigr).

Here it is run in three ways on a scan from few angles:

- **classical**: so many steps, of a size and with a weight that are
  given,
- **unrolled**: as many steps, of which each learns its own step size and
  weight, trained end to end,
- **equilibrium**: the minimiser, whose weight is learned with the
  gradient of the implicit function theorem.

Nothing is downloaded. From a clone of the repository,
``python gallery/projected_gradient.py`` runs this page in half a minute
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
from torch.utils.data import DataLoader

import deepinv_equilibrium as deq

parser = argparse.ArgumentParser(
    description="Projected gradient descent in three ways.",
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
)
add = parser.add_argument
add("--steps", type=int, default=40, help="optimiser steps of a training")
add("--layers", type=int, default=8, help="iterations that are unrolled")
add("--seed", type=int, default=0, help="of noise and training set")
add("--figure", default="projected_gradient.png", help="where it is written")
args = parser.parse_args()

torch.manual_seed(args.seed)
device = "cuda" if torch.cuda.is_available() else "cpu"
start = time.perf_counter()

# %%
# A scan of 32 by 32 pixels from 12 angles
# ----------------------------------------

SIZE, ANGLES, NOISE_LEVEL = 32, 12, 0.02
rng = torch.Generator(device).manual_seed(args.seed)
physics = dinv.physics.Tomography(
    angles=ANGLES,
    img_width=SIZE,
    circle=True,
    normalize=True,
    noise_model=dinv.physics.GaussianNoise(NOISE_LEVEL, rng=rng),
    device=device,
)


def ellipses(number: int, seed: int) -> deq.datasets.RandomEllipses:
    """Return images of random ellipses."""
    return deq.datasets.RandomEllipses(number, (SIZE, SIZE), seed=seed)


truth = torch.stack([sample["x"] for sample in ellipses(8, 2000)]).to(device)
measured = physics(truth)

# %%
# The certificate
# ---------------
# A projection is firmly nonexpansive and the rest is a gradient step of a
# strongly convex function, so that every step brings any two images
# nearer to each other, at a rate that is proved. It says how many steps
# are enough, and how far noise can move the result. The slides' form has
# the regulariser in the gradient step,

TAU, WEIGHT = 1.0, 0.05
slides = deq.optim.PGD(
    data_fidelity=deq.optim.RidgeL2(kappa=WEIGHT),
    prior=deq.optim.NonNegativity(),
    stepsize=TAU,
    DEQ=deq.Equilibrium(deq.Anderson(max_iter=300, rtol=1e-6)),
)
certificate = deq.certify(slides, physics, (1, SIZE, SIZE))
print(certificate)

# %%
# and the preset has it in the proximal step, where its weight can be
# trained. Both have the same minimiser.


def projected_gradient(
    configuration: deq.Equilibrium | None, layers: int = 1, **arguments: object
) -> deq.optim.PGD:
    """Return the preset, with the same step and weight in all layers."""
    return deq.plugins.create(
        "reconstructors",
        "projected-gradient",
        DEQ=configuration,
        lambda_reg=[WEIGHT] * layers,
        stepsize=[TAU] * layers,
        **arguments,
    ).to(device)


solver = deq.Anderson(max_iter=300, rtol=1e-6)
equilibrium = projected_gradient(deq.Equilibrium(solver))
with torch.no_grad():
    x = equilibrium(measured, physics)
    distance = ((x - slides(measured, physics)).norm() / x.norm()).item()
print(f"relative distance of the two minimisers: {distance:.1e}")

# %%
# Training
# --------
# The three models start from the same step size and weight. ``ReTune``
# with a single restart is an unrolled network of as many layers; lists of
# step sizes and weights are one for each layer.

K = args.layers


def layers(restarts: int) -> deq.optim.PGD:
    """Return K layers that learn steps and weights, applied so often."""
    configuration = deq.ReTune(layers=K, restarts=restarts)
    names = ["stepsize", "lambda_reg"]
    return projected_gradient(configuration, K, trainable_params=names)


classical = projected_gradient(None, max_iter=K)
unrolled = layers(restarts=1)


def train(model: deq.optim.PGD) -> None:
    """Learn what the model has to learn, in place."""
    pairs = [{"x": sample["x"]} for sample in ellipses(8 * args.steps, args.seed)]
    dinv.Trainer(
        model,
        physics,
        torch.optim.Adam(model.parameters(), lr=0.1),
        DataLoader(pairs, batch_size=8),
        epochs=1,
        losses=dinv.loss.SupLoss(),
        metrics=None,
        online_measurements=True,
        device=device,
        save_path=None,
        freq_update_progress_bar=20,
        non_blocking_transfers=False,
    ).train()


for model in (unrolled, equilibrium):
    train(model)


def learned(model: deq.optim.PGD, name: str) -> list[float]:
    """Return the values of a parameter, one for each layer."""
    values = model.params_algo[name]
    return [round(value.item(), 4) for value in values]


print("unrolled: step sizes", learned(unrolled, "stepsize"))
print("unrolled: weights", learned(unrolled, "lambda"))
print("equilibrium: weight", learned(equilibrium, "lambda"))

# %%
# Held-out images
# ---------------
# The unrolled layers are best: trained for their number, they make up for
# the iterations that are missing, and stop where it suits the images. The
# equilibrium gives what the model says, the minimiser, which is above the
# same number of iterations with the weight that was not learned.

psnr = dinv.metric.PSNR()
models = {"classical": classical, "unrolled": unrolled, "equilibrium": equilibrium}
with torch.no_grad():
    images = {name: model(measured, physics) for name, model in models.items()}
    images = {"FBP": physics.A_dagger(measured, fbp=True), **images}
results = {}
for name, image in images.items():
    results[name] = {"PSNR": psnr(image, truth).mean().item()}
    print(f"{name:12s}{results[name]['PSNR']:7.2f} dB")

trained = deq.certify(equilibrium, physics, (1, SIZE, SIZE))
print("learned weight: rate", trained.rate, "\nstability", trained.stability)

# %%
# More steps than in the training
# -------------------------------
# The unrolled layers peak at the number they were trained for. Applied
# again they lose what they had gained: their step sizes, printed above,
# are larger than :math:`2 / \|A\|^2`, where a step need not contract, with
# :math:`\|A\| = 1`. The equilibrium gains a little when it is stopped
# early, and cannot be run too long: it comes to its minimiser, and stays.

applications = [1, 2, 4, 8, 16]
curves: dict[str, list[float]] = {"unrolled": [], "equilibrium": []}
for times in applications:
    repeated = layers(restarts=times)
    repeated.load_state_dict(unrolled.state_dict())
    longer = projected_gradient(deq.ReTune(layers=1, restarts=K * times))
    longer.load_state_dict(equilibrium.state_dict())
    pair = {"unrolled": repeated, "equilibrium": longer}
    with torch.no_grad():
        for name, model in pair.items():
            value = psnr(model(measured, physics), truth)
            curves[name].append(value.mean().item())
print("steps       " + "".join(f"{K * n:8d}" for n in applications))
for name, curve in curves.items():
    print(f"{name:12s}" + "".join(f"{value:8.2f}" for value in curve))
    results[name]["PSNR, 16 times the steps"] = curve[-1]

# %%
# The figure shows both beside an image of each.

figure, axes = plt.subplots(1, 6, figsize=(16, 3), layout="constrained")
for name, curve in curves.items():
    axes[0].semilogx([K * n for n in applications], curve, "o-", label=name)
axes[0].set(xlabel="steps", ylabel="PSNR in dB")
axes[0].legend()
brightest = truth[0].max().item()
shown = {"truth": truth, **images}
for axis, (name, image) in zip(axes[1:], shown.items(), strict=True):
    axis.imshow(image[0, 0].numpy(force=True), cmap="gray", vmin=0, vmax=brightest)
    axis.set_title(name)
    axis.set_axis_off()
figure.savefig(args.figure, dpi=110)
print(f"{args.figure}, {time.perf_counter() - start:.0f} seconds")

# %%
# Three seeds
# -----------
# Of noise and training set, with the command that is printed: the order
# is the same for each of them. After 16 times the steps the unrolled
# layers have lost 1.2 to 2.3 dB, and the equilibrium is above them.

folder = Path(__file__).parent / "experiments"
record = json.loads((folder / "projected_gradient.json").read_text("utf-8"))
print(record["command"])
for name, row in record["results"].items():
    for measure, values in row.items():
        mean, spread = statistics.mean(values), statistics.stdev(values)
        print(f"{name:12s}{mean:7.2f} +- {spread:.2f} dB, {measure}")
