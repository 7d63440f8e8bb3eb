r"""
MRI of knees at equilibrium
===========================

A scanner that measures a quarter of the columns of the Fourier transform is four times
as fast; the missing columns have to be estimated. This page reconstructs with a model
whose output is the fixed point of

.. math::

    x = \operatorname{D}_\sigma(x - \tau A^\top (A x - y))

(DE-PROX, :footcite:t:`gilton2021deep`), with the shipped weights of a network that
``gallery/training/knees.py`` trained on knees by the Jacobian-free gradient. The slice
below is a head, which the network has never seen; the table at the end is for knees,
where the model is compared with total variation, plug-and-play and an unrolled network
of the same size.

Nothing is downloaded, and the page runs in a minute on two cores.
"""

import deepinv as dinv
import matplotlib.pyplot as plt
import numpy as np
import torch
from deepinv.physics.generator import RandomMaskGenerator
from matplotlib.cbook import get_sample_data
from torch import Tensor

import deepinv_equilibrium as deq

SIZE = 256  # of the slice, which is averaged over blocks of pixels
ITERATIONS = (1, 2, 4, 8, 16, 32, 64, 128)  # to go on beyond the fixed point
SEED = 0  # of columns and noise

device = "cuda" if torch.cuda.is_available() else "cpu"

# %%
# The scan
# --------
# The two channels of an image are its real and its imaginary part. A quarter of the
# columns is measured: 8 % of all at the centre, the others at random. The noise has
# the standard deviation .01, for magnitudes of at most 1.

with get_sample_data("s1045.ima.gz") as file:  # it comes with matplotlib
    pixels = np.frombuffer(file.read(), np.uint16).reshape(256, 256)
side = 256 // SIZE
blocks = (pixels / pixels.max()).reshape(SIZE, side, SIZE, side).mean((1, 3))
magnitudes = torch.from_numpy(blocks).float()
axis = torch.linspace(-1, 1, SIZE)
phase = 1 + 2 * axis[:, None] - axis + axis.square() / 2
truth = torch.stack([magnitudes * phase.cos(), magnitudes * phase.sin()])[None]
truth = truth.to(device)

generator = torch.Generator().manual_seed(SEED)
masks = RandomMaskGenerator((SIZE, SIZE), 4, 0.08, rng=generator)
mask = masks.step(1)["mask"].to(device)
physics = dinv.physics.MRI(
    mask=mask,
    img_size=(SIZE, SIZE),
    noise_model=dinv.physics.GaussianNoise(
        0.01, rng=torch.Generator(device).manual_seed(SEED)
    ),
    device=device,
)
y = physics(truth)
print(f"{mask.mean():.0%} of the columns are measured")

# %%
# The models
# ----------
# The weight of total variation is the best for validation knees. Step size and noise
# level of DE-PROX were trained with its network.

TV_WEIGHT, STEPSIZE, SIGMA = 0.004, 1.0, 0.02


def de_prox(solver: deq.fixed_points.FixedPointSolver) -> deq.optim.PGD:
    """Return the model with the trained weights and a solver."""
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(deq.models.SmallDRUNet(2, pretrained="knees")),
        stepsize=STEPSIZE,
        sigma_denoiser=SIGMA,
        DEQ=deq.Equilibrium(solver, deq.JacobianFree(), on_failure="ignore"),
    ).to(device)


weights = deq.models.ConstantTVMap((0, 0), TV_WEIGHT)
models = {
    "zero-filled": dinv.models.ArtifactRemoval(lambda x, sigma: x, mode="adjoint"),
    "TV": deq.models.TVMapReconstructor(weights, max_iter=300),
    "DE-PROX": de_prox(deq.Anderson(rtol=1e-4, max_iter=60)),
}
psnr, ssim = dinv.metric.PSNR(max_pixel=1), dinv.metric.SSIM()


def magnitude(x: Tensor) -> Tensor:
    """Return the magnitude, which is shown and measured."""
    return torch.linalg.vector_norm(x, dim=1, keepdim=True)


shown = {"truth": magnitude(truth)}
for name, model in models.items():
    with torch.no_grad():
        shown[name] = magnitude(model(y, physics))
    pair = shown[name], shown["truth"]
    print(f"{name:12s}{psnr(*pair).item():6.2f} dB  SSIM {ssim(*pair).item():.3f}")
print(models["DE-PROX"].solution)

figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained")
for panel, (name, image) in zip(axes, shown.items(), strict=True):
    panel.imshow(image[0, 0].numpy(force=True), cmap="gray", vmin=0, vmax=0.9)
    value = "" if name == "truth" else f", {psnr(image, shown['truth']).item():.1f} dB"
    panel.set_title(name + value)
    panel.set_axis_off()
figure.savefig("mri_knees.png", dpi=110)

# %%
# More iterations
# ---------------
# The network was trained at the fixed point, so that plain iterations approach the
# quality of the fixed point, and stay there.

values = []
for count in ITERATIONS:
    with torch.no_grad():
        x = de_prox(deq.Picard(max_iter=count, rtol=0.0))(y, physics)
    values.append(psnr(magnitude(x), shown["truth"]).item())
print("iterations" + "".join(f"{count:8d}" for count in ITERATIONS))
print("PSNR      " + "".join(f"{value:8.2f}" for value in values))

# %%
# What is proved
# --------------
# Nothing: no useful bound of a DRUNet is known, and the report above is about this
# measurement only. ``certified-deq-pgd`` is proved to converge for every mask, see
# :doc:`/auto_how_to/mri_own_slices`.

certificate = deq.certify(models["DE-PROX"], physics, (2, SIZE, SIZE))
print(certificate.convergence, certificate.rate)
