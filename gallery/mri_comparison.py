r"""
Accelerated MRI: unrolled, at equilibrium, certified
====================================================

A scanner that measures a quarter of the Fourier coefficients is four
times as fast, and leaves the rest to be guessed. Six reconstructions of
the same measurements are compared:

- **zero-filled**: what was not measured is zero,
- **TV**: total variation, its weight chosen on validation images,
- **PnP**: proximal gradient steps with a denoiser that knows nothing of
  the scanner :footcite:p:`venkatakrishnan2013plug`,
- **DU-PROX**: :math:`K` such steps as layers of a network, trained end
  to end,
- **DE-PROX**: their fixed point, trained by the implicit function
  theorem :footcite:p:`gilton2021deep`,
- **DE-GRAD**: a fixed point of gradient steps whose convergence is
  certified, also before the training and after each of its steps.

PnP, DU-PROX and DE-PROX have the same network and start from the same
weights; the trained ones see the same images, in the same number of
steps. Published results on knees are 24.5 dB for zero-filled, 29.2 for
PnP, 31.0 for DU-PROX and 32.1 for DE-PROX.

Nothing is downloaded. From a clone of the repository,
``python gallery/mri_comparison.py`` runs this page in less than two
minutes on two cores. Networks and trainings are far smaller than the
published ones; a longer run, of three seeds, is shown at the end, with
what it does and does not confirm.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
import warnings
from pathlib import Path

import deepinv as dinv
import matplotlib.pyplot as plt
import numpy as np
import torch
from deepinv.utils.phantoms import SheppLoganDataset
from matplotlib.cbook import get_sample_data
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torch.utils.data import DataLoader

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import BoundedDnCNN
from deepinv_equilibrium.presets.gilton_2021 import de_admm, de_grad, de_prox

parser = argparse.ArgumentParser(
    description="Compare reconstructions of an accelerated MRI scan.",
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
)
add = parser.add_argument
add("--denoiser-steps", type=int, default=150, help="to denoise")
add("--steps", type=int, default=15, help="to train each model")
add("--layers", type=int, default=6, help="K, of the unrolled model")
add("--size", type=int, default=64, help="of the images, at most 128")
add("--seed", type=int, default=0, help="of mask, noise and weights")
add("--figure", default="mri_comparison.png", help="the file")
args = parser.parse_args()

torch.manual_seed(args.seed)
device = "cuda" if torch.cuda.is_available() else "cpu"
start = time.perf_counter()

# %%
# The scan
# --------
# A complex image has two channels, its real and its imaginary part. Of
# its Fourier coefficients the lowest are measured and others at random,
# the fewer the higher the frequency: a quarter of them all, with white
# noise of standard deviation 0.01. The mask is drawn once.

SIZE, ACCELERATION, NOISE_LEVEL = args.size, 4, 0.01


def sampling_mask(generator: torch.Generator) -> Tensor:
    """Return a random mask, denser towards the centre."""
    axis = torch.linspace(-1, 1, SIZE)
    radius = (axis[:, None].square() + axis.square()).sqrt()
    order = torch.rand(SIZE, SIZE, generator=generator)
    order = order ** (1 / (1 - radius / 1.5).square())
    order[radius < 0.15] = 2.0
    count = SIZE**2 // ACCELERATION
    return (order >= order.flatten().sort().values[-count]).float()


mask = sampling_mask(torch.Generator().manual_seed(args.seed))


def scan(seed: int) -> dinv.physics.MRI:
    """Return the physics, with random numbers of its own."""
    rng = torch.Generator(device).manual_seed(seed)
    noise = dinv.physics.GaussianNoise(NOISE_LEVEL, rng=rng)
    return dinv.physics.MRI(mask=mask, noise_model=noise, device=device)


physics = scan(args.seed)
warnings.filterwarnings("ignore", message="torch.meshgrid")  # of deepinv
print(f"{mask.mean():.0%} of the coefficients are measured")

# %%
# The images
# ----------
# No brain is trained on: half of the training images are crops of
# photos, the others are the phantoms
# :class:`CinePhantom <deepinv_equilibrium.datasets.CinePhantom>` and
# :class:`RandomEllipses <deepinv_equilibrium.datasets.RandomEllipses>`.
# All that is real gets a smooth random phase. Weights of TV and step
# sizes of PnP are chosen on validation images, of another photo and
# other phantoms. The test is a slice of a head that comes with
# matplotlib, the Shepp-Logan phantom and two more hearts.


def with_phase(image: Tensor, rng: torch.Generator) -> Tensor:
    """Return a real image times a smooth random phase."""
    a, b, c, d = torch.randn(4, generator=rng).tolist()
    axis = torch.linspace(-1, 1, SIZE)
    phase = 3 * a + b * axis[:, None] + c * axis + d * axis**2 / 2
    return torch.cat([image * phase.cos(), image * phase.sin()])


def images(split: str, count: int, seed: int) -> list[dict[str, Tensor]]:
    """Return photos and phantoms in turn."""
    rng = torch.Generator().manual_seed(seed)
    window = {"img_size": 2 * SIZE, "crops": (count + 1) // 2}
    photos = deq.datasets.Photos(split, grey=True, seed=seed, **window)
    quarter = (count + 3) // 4
    cine = deq.datasets.CinePhantom(quarter, (2, 1, SIZE, SIZE), seed=seed)
    ellipses = deq.datasets.RandomEllipses(quarter, (SIZE, SIZE), seed=seed)
    x = []
    for i, photo in enumerate(photos):
        x.append(with_phase(avg_pool2d(photo["x"], 2), rng))
        if i % 2:
            x.append(with_phase(ellipses[i // 2]["x"], rng))
        else:
            x.append(cine[i // 2]["x"][:, 0])
    return [{"x": image} for image in x[:count]]


def head(rng: torch.Generator) -> Tensor:
    """Return the slice, in [0, 1], several pixels in one."""
    with get_sample_data("s1045.ima.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint16).reshape(1, 256, 256)
    image = torch.from_numpy(pixels.astype(np.float32)) / pixels.max()
    return with_phase(avg_pool2d(image, 256 // SIZE), rng)


rng = torch.Generator().manual_seed(args.seed)
shepp_logan = SheppLoganDataset(size=SIZE, use_dict_output=True)[0]["x"]
hearts = deq.datasets.CinePhantom(2, (2, 1, SIZE, SIZE), seed=2000)
truth = [head(rng), with_phase(shepp_logan, rng)]
truth = torch.stack([*truth, *(sample["x"][:, 0] for sample in hearts)])
truth = truth.to(device)
measured = physics(truth)
validation = images("validation", 8, seed=1000)
validation = torch.stack([sample["x"] for sample in validation]).to(device)
to_validate = physics(validation)

psnr, ssim = dinv.metric.PSNR(max_pixel=None), dinv.metric.SSIM()


def magnitude(x: Tensor) -> Tensor:
    """Return what is looked at, and measured."""
    return torch.linalg.vector_norm(x, dim=1, keepdim=True)


def validate(model: dinv.models.Reconstructor) -> float:
    """Return the mean PSNR on the validation images."""
    with torch.no_grad():
        x = model(to_validate, physics)
    return psnr(magnitude(x), magnitude(validation)).mean().item()


# %%
# A denoiser
# ----------
# :class:`BoundedDnCNN <deepinv_equilibrium.models.BoundedDnCNN>` is a
# DnCNN whose layers are divided by certified bounds of their norms:
# :math:`D = I + \epsilon N`, with a nonexpansive :math:`N`. Here it has
# four convolutions of 24 filters, where the published ones have 17 of
# 64. It is trained to remove noise from the images.


def train(
    model: torch.nn.Module,
    physics: dinv.physics.Physics,
    steps: int,
    lr: float,
) -> float:
    """Learn in place, with a batch of four; return the seconds."""
    begin = time.perf_counter()
    optimizer = torch.optim.Adam(model.parameters(), lr, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=steps + 1, pct_start=0.1
    )
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    dinv.Trainer(
        model,
        physics,
        optimizer,
        DataLoader(training[: 4 * steps], batch_size=4),
        epochs=1,
        losses=dinv.loss.SupLoss(),
        metrics=None,
        online_measurements=True,
        device=device,
        save_path=None,
        freq_update_progress_bar=20,
        non_blocking_transfers=False,
    ).train()
    model.eval()
    return time.perf_counter() - begin


training = images("train", 4 * max(args.denoiser_steps, args.steps), args.seed)
denoiser = BoundedDnCNN(2, epsilon=4.0, depth=4, filters=24).to(device)
direct = dinv.models.ArtifactRemoval(denoiser, mode="direct")
rng = torch.Generator(device).manual_seed(args.seed + 1)
noise = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.05, rng=rng))
seconds = train(direct, noise, args.denoiser_steps, lr=1e-2)
print(f"denoiser: {args.denoiser_steps} steps in {seconds:.0f} seconds")

# %%
# The models
# ----------
# PnP, DU-PROX and DE-PROX have the same step, :math:`x \mapsto D(x -
# \tau A^\top (A x - y))`. The smallest eigenvalue of :math:`A^\top A`
# is 0, as coefficients are missing, and then no bound of :math:`D - I`
# makes the step a contraction: :math:`\epsilon = 4` only keeps it tame.
# ``model.solution`` says whether a fixed point was reached.

K = args.layers


def unrolled(denoiser: BoundedDnCNN, layers: int, tau: float) -> deq.optim.PGD:
    """Return so many steps, recorded one by one."""
    solver = deq.Picard(max_iter=layers, rtol=0.0)
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        stepsize=tau,
        sigma_denoiser=0.05,
        trainable_params=["stepsize"],
        DEQ=deq.Equilibrium(solver, deq.Unrolled(), on_failure="ignore"),
    )


solvers = {
    "solver": deq.Anderson(history_size=5, rtol=1e-4, max_iter=40),
    "adjoint": deq.Implicit(deq.Anderson(history_size=5, rtol=1e-2, max_iter=20)),
    "on_failure": "ignore",
}


def equilibrium(denoiser: BoundedDnCNN, tau: float) -> deq.optim.PGD:
    """Return their fixed point."""
    learned = ["stepsize"]
    return de_prox(denoiser, stepsize=tau, trainable_params=learned, **solvers)


# %%
# DE-GRAD is :math:`x \mapsto x - \tau ( A^\top (A x - y) + \lambda (x -
# D(x)) )` with a :math:`D` that contracts. Then so does the step, at a
# rate that is proved for all weights and, with :math:`\tau = 1`, for
# all :math:`\lambda \leq 1/2`. The paper has :math:`\lambda = 1`, which
# trusts the network as much as the measurement; here it is learned. A
# DnCNN that contracts (``residual=False``) filled in next to nothing:
# trained for 80 steps, it stayed at zero-filled on validation images.
# A :class:`ConvexPotentialDenoiser
# <deepinv_equilibrium.models.ConvexPotentialDenoiser>`, whose layers
# contract only where an image changes, fills in more.

contraction = deq.models.ConvexPotentialDenoiser(
    in_channels=2, contraction=0.99, pretrained=None, layers=2
)
certified = de_grad(
    contraction,
    stepsize=1.0,
    lambda_reg=0.3,
    sigma_denoiser=0.1,
    trainable_params=["lambda"],
    **solvers,
)

# %%
# Training
# --------
# TV gets the best of six weights, PnP the best of four step sizes. The
# three networks are trained on the measurements, in as many steps.


def tv(weight: float) -> deq.models.TVMapReconstructor:
    """Return the reconstruction by total variation."""
    weights = deq.models.ConstantTVMap((0, 0), weight)
    model = deq.models.TVMapReconstructor(weights, max_iter=200)
    return model.to(device)


tried = [tv(0.0005 * 2**i) for i in range(6)]
plugs = [equilibrium(denoiser, tau) for tau in (0.25, 0.5, 1.0, 1.5)]
models = {
    "zero-filled": dinv.models.ArtifactRemoval(lambda x, sigma: x, mode="adjoint"),
    "TV": max(tried, key=validate),
    "PnP": max(plugs, key=validate),
    "DU-PROX": unrolled(copy.deepcopy(denoiser), K, 1.0),
    "DE-PROX": equilibrium(copy.deepcopy(denoiser), 1.0),
    "DE-GRAD": certified,
}
rates = {"DU-PROX": 3e-3, "DE-PROX": 3e-3, "DE-GRAD": 3e-2}
for name, lr in rates.items():
    model = models[name].to(device)
    seconds = train(model, scan(args.seed + 2), args.steps, lr)
    print(f"{name}: {args.steps} steps in {seconds:.0f} seconds")
for name, model in models.items():
    print(f"{name:12s}{validate(model):6.2f} dB on validation images")

# %%
# Held-out images
# ---------------
# PSNR and SSIM of the magnitudes, of the slice and in the mean of the
# three phantoms.

with torch.no_grad():
    reconstructed = {name: model(measured, physics) for name, model in models.items()}
target = magnitude(truth)


def measures(x: Tensor) -> dict[str, float]:
    """Return both measures of the slice, and of the phantoms."""
    x = magnitude(x)
    p, s = psnr(x, target), ssim(x, target)
    return {
        "PSNR slice": p[0].item(),
        "SSIM slice": s[0].item(),
        "PSNR phantoms": p[1:].mean().item(),
        "SSIM phantoms": s[1:].mean().item(),
    }


results = {name: measures(x) for name, x in reconstructed.items()}
print(f"{'':12s}" + "".join(f"{name:>15s}" for name in results["TV"]))
for name, row in results.items():
    print(f"{name:12s}" + "".join(f"{value:15.3f}" for value in row.values()))
for name in ("PnP", "DE-PROX", "DE-GRAD"):
    print(f"{name}:\n{models[name].solution}")

# %%
# Iterating further
# -----------------
# The trained steps of DU-PROX and DE-PROX, applied more often: the mean
# PSNR of all test images.

print(f"{'iterations':12s}" + "".join(f"{n:8d}" for n in (1, K, 2 * K, 10 * K)))
for name in ("DU-PROX", "DE-PROX"):
    prior, parameters = models[name].prior[0], models[name].params_algo
    tau = parameters["stepsize"][0].item()
    row = f"{name:12s}"
    for n in (1, K, 2 * K, 10 * K):
        with torch.no_grad():
            x = unrolled(prior.denoiser, n, tau)(measured, physics)
        value = psnr(magnitude(x), target).mean().item()
        results[name][f"PSNR after {n}"] = value
        row += f"{value:8.2f}"
    print(row)

# %%
# DE-ADMM, and whether there is an energy
# ---------------------------------------
# A fixed point of DE-ADMM with :math:`D` and :math:`\tau` is one of
# DE-PROX, :math:`x = D(x - \tau A^\top (A x - y))`, on another way: it
# takes the proximal operator of the data in the place of a gradient. With
# the weights of DE-PROX it is solved from :math:`A^\top y`, and nothing
# is trained.

prox = models["DE-PROX"]
admm = de_admm(
    prox.prior[0].denoiser,
    stepsize=prox.params_algo["stepsize"][0].item(),
    **solvers,
).to(device)
with torch.no_grad():
    x = admm(measured, physics)
gap = (x - reconstructed["DE-PROX"]).flatten(1).norm(dim=1)
gap = gap / reconstructed["DE-PROX"].flatten(1).norm(dim=1)
value = psnr(magnitude(x), target).mean().item()
print(f"DE-ADMM {value:.2f} dB, {gap.max():.1%} from DE-PROX at most")
print(admm.solution)

# %%
# DE-GRAD is often written with an energy, :math:`\tfrac12 x^\top (x -
# D(x))`. For this denoiser there is none: each of its two layers has a
# symmetric Jacobian, one after the other they have not, so that
# :math:`x - D(x)` is the gradient of no function. The equilibrium, and
# its certificate, need no energy.

red = certified.prior[0]
print(red.check_gradient(reconstructed["DE-GRAD"], 0.1))

# %%
# What is certified
# -----------------
# DE-GRAD converges to one solution from every start, and the solution
# moves with the measurement by no more than is printed. Of DE-PROX the
# certificate says why it has none.

certificate = deq.certify(certified, physics, (2, SIZE, SIZE))
print(certificate)
print(deq.certify(models["DE-PROX"], physics, (2, SIZE, SIZE)).rate)
results["DE-GRAD"]["rate"] = certificate.rate.value

# %%
# A longer run
# ------------
# A page has two minutes, which train next to nothing. What follows is
# of three seeds, each with a mask, noise, a training set and weights of
# its own, and kept by the command that is printed: mean and standard
# deviation.

RECORD = Path(__file__).parent / "experiments" / "mri_comparison.json"
record = json.loads(RECORD.read_text("utf-8"))
print(record["command"])


def statistics(name: str, measure: str) -> str:
    """Return the mean and the standard deviation over the seeds."""
    values = np.array(record["results"][name][measure])
    return f"{values.mean():7.3f} +- {values.std(ddof=1):.3f}"


for name in record["results"]:
    row = [statistics(name, measure) for measure in results["TV"]]
    print(f"{name:12s}" + "  ".join(row))
for n in (1, 6, 12, 60):
    row = [
        f"{name} {statistics(name, f'PSNR after {n}')}"
        for name in ("DU-PROX", "DE-PROX")
    ]
    print(f"after {n:2d} iterations: {', '.join(row)}")

# %%
# Which orderings were seen:
#
# - On the slice, zero-filled, PnP, DU-PROX and DE-PROX are in the
#   published order, with each seed: the mean gains are .9, .5 and 1.2
#   dB in PSNR, and SSIM has the same order but for DE-PROX and DU-PROX
#   with one seed. On the phantoms DE-PROX is above DU-PROX with each
#   seed (1.4 dB in the mean), and DU-PROX is not above PnP.
# - DE-GRAD, the only one with a certificate, is above all of these on
#   the slice with each seed, by 1.5 dB, and on the phantoms with two of
#   three. It is another network, of 405 parameters where the DnCNN has
#   11,307; so few steps train it further.
# - **Not seen**: learned models above TV. On the slice DE-GRAD is .1 dB
#   below it in the mean, and above with one seed; DE-PROX is 1.6 dB
#   below. On the phantoms, which are nearly piecewise constant, TV is
#   4 dB above DE-GRAD. Published networks have fifty times the weights,
#   and are trained at length on images like those of their tests; these
#   have seen 160 scans, and no head.
# - DE-PROX is stable past its training: plain steps approach the fixed
#   point from below. **Not seen**: that the unrolled network is best at
#   the :math:`K = 6` of its training. It goes on gaining, .5 dB at
#   :math:`2 K` and .7 dB at :math:`10 K`: six steps are far from the
#   fixed point of the denoiser that it starts from, and 40 steps of
#   training have not moved it far from that denoiser.
#
# What it looks like
# ------------------

figure, axes = plt.subplots(2, 7, figsize=(15, 4.8), layout="constrained")
for row, i in zip(axes, (0, 2), strict=True):
    row[0].set_title("truth")
    shown = [target, *(magnitude(x) for x in reconstructed.values())]
    for axis, image in zip(row, shown, strict=True):
        axis.imshow(image[i, 0].numpy(force=True), cmap="gray", vmin=0, vmax=1)
        axis.set_axis_off()
    for axis, name in zip(row[1:], reconstructed, strict=True):
        value = psnr(magnitude(reconstructed[name]), target)[i].item()
        axis.set_title(f"{name}, {value:.1f} dB")
figure.savefig(args.figure, dpi=110)
print(f"{args.figure}, {time.perf_counter() - start:.0f} seconds")

# %%
# .. footbibliography::
