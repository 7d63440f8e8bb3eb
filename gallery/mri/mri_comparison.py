r"""
Accelerated MRI: unrolled, at equilibrium, certified
====================================================

A scanner that measures a quarter of the Fourier coefficients is four
times as fast, but the missing coefficients have to be estimated. This page
compares six reconstructions from the same measurements:

- **zero-filled**: the missing coefficients are zero,
- **TV**: total variation, with a weight chosen on validation images,
- **PnP**: proximal gradient steps with a denoiser that was trained
  without the scanner :footcite:p:`venkatakrishnan2013plug`,
- **DU-PROX**: :math:`K` such steps as layers of a network, trained end to
  end,
- **DE-PROX**: the fixed point of such steps, trained with the implicit
  function theorem :footcite:p:`gilton2021deep`,
- **DE-GRAD**: a fixed point of gradient steps whose convergence is
  certified before the training and after each of its steps.

PnP, DU-PROX and DE-PROX have the same network and start from the same
weights. The trained models see the same images in the same number of
steps. Published results on knees are 24.5 dB for zero-filled, 29.2 for
PnP, 31.0 for DU-PROX and 32.1 for DE-PROX.

Nothing is downloaded. From a clone of the repository,
``python gallery/mri/mri_comparison.py`` runs this page in less than two
minutes on two cores. Networks and trainings are far smaller than the
published ones. The end of the page has the results of a longer run with
three seeds, and says what they confirm and what they do not.
"""

import copy
import warnings

import deepinv as dinv
import matplotlib.pyplot as plt
import numpy as np
import torch
from deepinv.utils.phantoms import SheppLoganDataset
from matplotlib.cbook import get_sample_data
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torch.utils.data import DataLoader
from tqdm import tqdm

import deepinv_equilibrium as deq
from deepinv_equilibrium.models import BoundedDnCNN
from deepinv_equilibrium.presets import de_admm, de_grad, de_prox

DENOISER_STEPS = 150  # to train the denoiser
STEPS = 15  # to train each model
LAYERS = 6  # K, of the unrolled model
SIZE = 64  # of the images, at most 128
TV_ITERATIONS = 200  # of total variation
SEED = 0  # of mask, noise and weights

torch.manual_seed(SEED)
device = "cuda" if torch.cuda.is_available() else "cpu"

# %%
# The scan
# --------
# The two channels of an image are its real and its imaginary part. The
# lowest Fourier coefficients are measured. The others are chosen at
# random, fewer at higher frequencies. In total a quarter of the
# coefficients is measured, with white noise of standard deviation 0.01.
# The mask is drawn once.

ACCELERATION, NOISE_LEVEL = 4, 0.01


def sampling_mask(generator: torch.Generator) -> Tensor:
    """Return a random mask, denser towards the centre."""
    axis = torch.linspace(-1, 1, SIZE)
    radius = (axis[:, None].square() + axis.square()).sqrt()
    order = torch.rand(SIZE, SIZE, generator=generator)
    order = order ** (1 / (1 - radius / 1.5).square())
    order[radius < 0.15] = 2.0
    count = SIZE**2 // ACCELERATION
    return (order >= order.flatten().sort().values[-count]).float()


mask = sampling_mask(torch.Generator().manual_seed(SEED))


def scan(seed: int) -> dinv.physics.MRI:
    """Return the physics with its own random numbers."""
    rng = torch.Generator(device).manual_seed(seed)
    noise = dinv.physics.GaussianNoise(NOISE_LEVEL, rng=rng)
    return dinv.physics.MRI(mask=mask, noise_model=noise, device=device)


physics = scan(SEED)
warnings.filterwarnings("ignore", message="torch.meshgrid")  # of deepinv
print(f"{mask.mean():.0%} of the coefficients are measured")

# %%
# The images
# ----------
# The training set has no head: half of the images are crops of photos, and
# the others are phantoms,
# :class:`CinePhantom <deepinv_equilibrium.datasets.CinePhantom>` and
# :class:`RandomEllipses <deepinv_equilibrium.datasets.RandomEllipses>`.
# Real images get a smooth random phase. The weight of TV and the step
# size of PnP are chosen on validation images, which are crops of another
# photo and other phantoms. The test images are a slice of a head that
# comes with matplotlib, the Shepp-Logan phantom and two hearts.


def with_phase(image: Tensor, rng: torch.Generator) -> Tensor:
    """Return a real image times a smooth random phase."""
    a, b, c, d = torch.randn(4, generator=rng).tolist()
    axis = torch.linspace(-1, 1, SIZE)
    phase = 3 * a + b * axis[:, None] + c * axis + d * axis**2 / 2
    return torch.cat([image * phase.cos(), image * phase.sin()])


def images(split: str, count: int, seed: int) -> list[Tensor]:
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
    return x[:count]


def head(rng: torch.Generator) -> Tensor:
    """Return the slice in [0, 1], averaged over blocks of pixels."""
    with get_sample_data("s1045.ima.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint16).reshape(1, 256, 256)
    image = torch.from_numpy(pixels.astype(np.float32)) / pixels.max()
    return with_phase(avg_pool2d(image, 256 // SIZE), rng)


rng = torch.Generator().manual_seed(SEED)
shepp_logan = SheppLoganDataset(size=SIZE, use_dict_output=True)[0]["x"]
hearts = deq.datasets.CinePhantom(2, (2, 1, SIZE, SIZE), seed=2000)
truth = [head(rng), with_phase(shepp_logan, rng)]
truth = torch.stack([*truth, *(sample["x"][:, 0] for sample in hearts)])
truth = truth.to(device)
measured = physics(truth)
validation = torch.stack(images("validation", 8, seed=1000)).to(device)
to_validate = physics(validation)

psnr, ssim = dinv.metric.PSNR(max_pixel=None), dinv.metric.SSIM()


def magnitude(x: Tensor) -> Tensor:
    """Return the magnitude, which is shown and measured."""
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
# :math:`D = I + \epsilon N` with a nonexpansive :math:`N`. On this page it
# has four convolutions with 24 filters; the published network has 17 with
# 64. It is trained to remove noise from the images.


def train(
    name: str,
    model: torch.nn.Module,
    physics: dinv.physics.Physics,
    steps: int,
    lr: float,
) -> None:
    """Learn in place with batches of four."""
    optimizer = torch.optim.Adam(model.parameters(), lr, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=steps + 1, pct_start=0.1
    )
    model.train()
    for batch in tqdm(DataLoader(training[: 4 * steps], batch_size=4), desc=name):
        x = batch.to(device)
        optimizer.zero_grad()
        (model(physics(x), physics) - x).square().mean().backward()
        optimizer.step()
        schedule.step()
    model.eval()


training = images("train", 4 * max(DENOISER_STEPS, STEPS), SEED)
denoiser = BoundedDnCNN(2, epsilon=4.0, depth=4, filters=24).to(device)
direct = dinv.models.ArtifactRemoval(denoiser, mode="direct")
rng = torch.Generator(device).manual_seed(SEED + 1)
noise = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.05, rng=rng))
train("denoiser", direct, noise, DENOISER_STEPS, lr=1e-2)

# %%
# The models
# ----------
# PnP, DU-PROX and DE-PROX have the same step, :math:`x \mapsto D(x -
# \tau A^\top (A x - y))`. The smallest eigenvalue of :math:`A^\top A` is
# 0, because coefficients are missing, and then no bound of :math:`D - I`
# makes the step a contraction; :math:`\epsilon = 4` only limits its
# expansion. ``model.solution`` reports whether a fixed point was reached.


def unrolled(denoiser: BoundedDnCNN, layers: int, tau: float) -> deq.optim.PGD:
    """Return a fixed number of steps, all recorded for the gradient."""
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
    """Return the fixed point of the steps."""
    learned = ["stepsize"]
    return de_prox(denoiser, stepsize=tau, trainable_params=learned, **solvers)


# %%
# The step of DE-GRAD is :math:`x \mapsto x - \tau ( A^\top (A x - y) +
# \lambda (x - D(x)) )` with a :math:`D` that contracts. Then the step
# contracts at a rate that is proved for all weights and, with
# :math:`\tau = 1`, for all :math:`\lambda \leq 1/2`. The paper has
# :math:`\lambda = 1`, which gives the network and the measurement equal
# weights; here :math:`\lambda` is learned. A contracting DnCNN
# (``residual=False``) filled in almost no coefficients: after 80 steps of
# training its validation PSNR was still that of zero-filled. A
# :class:`ConvexPotentialDenoiser
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
# three networks are trained on the measurements in the same number of
# steps.


def tv(weight: float) -> deq.models.TVMapReconstructor:
    """Return reconstruction by total variation."""
    weights = deq.models.ConstantTVMap((0, 0), weight)
    model = deq.models.TVMapReconstructor(weights, max_iter=TV_ITERATIONS)
    return model.to(device)


tried = [tv(0.0005 * 2**i) for i in range(6)]
plugs = [equilibrium(denoiser, tau) for tau in (0.25, 0.5, 1.0, 1.5)]
models = {
    "zero-filled": dinv.models.ArtifactRemoval(lambda x, sigma: x, mode="adjoint"),
    "TV": max(tried, key=validate),
    "PnP": max(plugs, key=validate),
    "DU-PROX": unrolled(copy.deepcopy(denoiser), LAYERS, 1.0),
    "DE-PROX": equilibrium(copy.deepcopy(denoiser), 1.0),
    "DE-GRAD": certified,
}
rates = {"DU-PROX": 3e-3, "DE-PROX": 3e-3, "DE-GRAD": 3e-2}
for name, lr in rates.items():
    train(name, models[name].to(device), scan(SEED + 2), STEPS, lr)
for name, model in models.items():
    print(f"{name:12s}{validate(model):6.2f} dB on validation images")

# %%
# Held-out images
# ---------------
# PSNR and SSIM of the magnitudes, for the slice and in the mean of the
# three phantoms.

with torch.no_grad():
    reconstructed = {name: model(measured, physics) for name, model in models.items()}
target = magnitude(truth)


def measures(x: Tensor) -> dict[str, float]:
    """Return both measures of the slice and of the phantoms."""
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
# More iterations
# ---------------
# The mean PSNR of all test images when the trained steps of DU-PROX and
# DE-PROX are applied more often.

counts = (1, LAYERS, 2 * LAYERS, 10 * LAYERS)
print(f"{'iterations':12s}" + "".join(f"{n:8d}" for n in counts))
for name in ("DU-PROX", "DE-PROX"):
    prior, parameters = models[name].prior[0], models[name].params_algo
    tau = parameters["stepsize"][0].item()
    row = f"{name:12s}"
    for n in counts:
        with torch.no_grad():
            x = unrolled(prior.denoiser, n, tau)(measured, physics)
        value = psnr(magnitude(x), target).mean().item()
        results[name][f"PSNR after {n}"] = value
        row += f"{value:8.2f}"
    print(row)

# %%
# DE-ADMM
# -------
# A fixed point of DE-ADMM with :math:`D` and :math:`\tau` is a fixed point
# of DE-PROX, :math:`x = D(x - \tau A^\top (A x - y))`. DE-ADMM reaches it
# on another path, with the proximal operator of the data in place of a
# gradient. It is solved here from :math:`A^\top y` with the weights of
# DE-PROX; nothing is trained.

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
print(f"DE-ADMM {value:.2f} dB, at most {gap.max():.1%} from DE-PROX")
print(admm.solution)

# %%
# Is there an energy?
# -------------------
# DE-GRAD is often written with the energy :math:`\tfrac12 x^\top (x -
# D(x))`. This denoiser has no such energy. Each of its two layers has a
# symmetric Jacobian, but their composition does not, so :math:`x - D(x)`
# is not the gradient of a function. The equilibrium and its certificate
# need no energy.

red = certified.prior[0]
print(red.check_gradient(reconstructed["DE-GRAD"], 0.1))

# %%
# What is certified
# -----------------
# DE-GRAD converges to one solution from every start, and the solution
# moves with the measurement by no more than the printed stability. For
# DE-PROX, the certificate says why no rate is known.

certificate = deq.certify(certified, physics, (2, SIZE, SIZE))
print(certificate)
print(deq.certify(models["DE-PROX"], physics, (2, SIZE, SIZE)).rate)
results["DE-GRAD"]["rate"] = certificate.rate.value

# %%
# Three seeds of a longer run
# ---------------------------
# Two minutes suffice for very little training. The following means and
# standard deviations are over three seeds of mask, noise, training set and
# weights, after 40 steps,
# ``python gallery/experiments/repeat.py mri_comparison --seeds 0 1 2 -- STEPS=40``:
#
# .. code-block:: none
#
#     method           PSNR slice      SSIM slice   PSNR phantoms   SSIM phantoms
#     zero-filled    23.63 ± 0.11   0.435 ± 0.005    19.28 ± 0.13   0.364 ± 0.005
#     TV             27.82 ± 0.45   0.731 ± 0.051    27.73 ± 0.55   0.742 ± 0.017
#     PnP            24.55 ± 0.17   0.501 ± 0.026    21.24 ± 0.57   0.466 ± 0.035
#     DU-PROX        25.05 ± 0.32   0.576 ± 0.022    21.21 ± 0.48   0.480 ± 0.040
#     DE-PROX        26.21 ± 0.55   0.590 ± 0.052    22.64 ± 1.04   0.518 ± 0.058
#     DE-GRAD        27.71 ± 0.35   0.672 ± 0.022    23.60 ± 0.30   0.554 ± 0.013
#     method         PSNR after 1    PSNR after 6   PSNR after 12   PSNR after 60
#     DU-PROX        20.40 ± 0.14    22.17 ± 0.41    22.67 ± 0.50    22.88 ± 0.48
#     DE-PROX        20.49 ± 0.09    21.45 ± 0.26    22.12 ± 0.49    23.40 ± 0.91
#     method                 rate
#     DE-GRAD       0.998 ± 0.000
#
# They confirm in part what is published:
#
# - On the slice, zero-filled, PnP, DU-PROX and DE-PROX are in the
#   published order for every seed. The mean gains are .9, .5 and 1.2 dB.
#   SSIM has the same order, except for DE-PROX and DU-PROX with one seed.
#   On the phantoms DE-PROX is above DU-PROX for every seed, by 1.4 dB in
#   the mean, and DU-PROX is not above PnP.
# - DE-GRAD, the only certified model, is above all of these on the slice
#   for every seed, by 1.5 dB, and on the phantoms for two of three seeds.
#   Its network has 405 parameters and the DnCNN 11,307; the same few steps
#   train the smaller network further.
# - The learned models are *not* above TV. On the slice DE-GRAD is .1 dB
#   below TV in the mean and above it for one seed; DE-PROX is 1.6 dB
#   below. On the phantoms, which are nearly piecewise constant, TV is 4 dB
#   above DE-GRAD. Published networks have fifty times as many weights and
#   are trained for long on images like those of the test. These networks
#   have seen 160 scans, and no head.
# - DE-PROX is stable beyond its training: the PSNR of plain steps rises
#   towards that of the fixed point.
# - The unrolled network is *not* best after the :math:`K = 6` iterations
#   of its training. It gains another .5 dB after :math:`2 K` and .7 dB
#   after :math:`10 K` iterations. Six steps are far from the fixed point
#   of the denoiser at the start, and 40 steps of training have changed
#   this denoiser little.
#
# The images
# ----------

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
figure.savefig("mri_comparison.png", dpi=110)

# %%
# .. footbibliography::
