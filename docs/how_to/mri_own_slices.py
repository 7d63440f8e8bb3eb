r"""
MRI with your own slices, masks that vary and several coils
===========================================================

This page trains two models on complex slices, with a new mask for every slice of
every batch, and reconstructs with them and with a third one, with one coil and with
several. Two of the models are known to converge, for every mask. For your own slices,
replace the function ``example_slices`` and the slice ``head``.
"""

import deepinv as dinv
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.cbook import get_sample_data
from torch import Tensor
from torch.utils.data import DataLoader

import deepinv_equilibrium as deq

SIZE = 64  # of the slices, an even number
SLICES, EPOCHS, BATCH = 12, 2, 4
ACCELERATION, COILS, NOISE_LEVEL = 3, 4, 0.01

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"

# %%
# Complex slices as two channels
# ------------------------------
# deepinv stores the real and the imaginary part of a complex image as two
# channels, of shape ``(2, H, W)``. The networks are real, with ``in_channels=2``.
# Divide all slices by one number such that the magnitudes are at most about 1.


def as_channels(slices: np.ndarray) -> Tensor:
    """Convert complex slices of shape (N, H, W) to channels, (N, 2, H, W)."""
    return dinv.physics.MRI.from_torch_complex(torch.from_numpy(slices)).float()


# Slices of your own: ``as_channels(np.stack([np.load(file) for file in files]))``.


def phase(rng: np.random.Generator) -> np.ndarray:
    """Return a smooth random phase, as coils and motion cause it."""
    a, b, c = rng.normal(size=3)
    axis = np.linspace(-1, 1, SIZE)
    return np.exp(1j * (3 * a + b * axis[:, None] + c * axis))


def example_slices(count: int, seed: int) -> np.ndarray:
    """Return ellipses with a phase, complex, of shape (N, H, W)."""
    rng = np.random.default_rng(seed)
    ellipses = deq.datasets.RandomEllipses(count, (SIZE, SIZE), seed=seed)
    return np.stack([sample["x"][0].numpy() * phase(rng) for sample in ellipses])


with get_sample_data("s1045.ima.gz") as file:  # a head, which comes with matplotlib
    pixels = np.frombuffer(file.read(), np.uint16).reshape(256, 256)
blocks = pixels.reshape(SIZE, 256 // SIZE, SIZE, 256 // SIZE).mean((1, 3))
head = blocks / blocks.max() * phase(np.random.default_rng(1))

training = as_channels(example_slices(SLICES, seed=0))
truth = as_channels(head[None]).to(device)
print(tuple(training.shape), training.dtype, f"{training.abs().max():.2f}")


class Slices(torch.utils.data.Dataset[dict[str, Tensor]]):
    """A dataset as the Trainer expects it."""

    def __len__(self) -> int:
        return len(training)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": training[index]}


# %%
# A new mask for every slice
# --------------------------
# A generator of deepinv draws the masks, here columns at random with the central ones
# always measured. With ``online_measurements=True`` the Trainer gives each batch new
# masks, one for each slice, and computes :math:`y` from the slices. A mask of your own
# scanner has the shape ``(H, W)``, or ``(B, 1, H, W)`` for a batch, and is given to the
# physics as ``mask=torch.from_numpy(mask).float()``.

rng = torch.Generator(device).manual_seed(0)
masks = dinv.physics.generator.GaussianMaskGenerator(
    (2, SIZE, SIZE), ACCELERATION, rng=rng, device=device
)
physics = dinv.physics.MRI(
    img_size=(2, SIZE, SIZE),
    noise_model=dinv.physics.GaussianNoise(NOISE_LEVEL, rng=rng),
    device=device,
)

# %%
# Three models
# ------------
# - ``deq-pgd`` is proximal gradient descent at equilibrium with a network in place of
#   the proximal operator. Nothing is known of its convergence before it runs.
# - ``certified-deq-pgd`` has a network that contracts for all weights, and so the model
#   contracts for all weights, too.
# - ``certified-ridge-gd`` minimises a strongly convex energy, with the bundled
#   regulariser of grey images for each of the two channels. It needs no training. The
#   step size 1 suits every mask.
#
# The networks of the first two start from random weights. For knees there are trained
# ones, ``SmallDRUNet(2, pretrained="knees")``, of which nothing is proved.

create = deq.plugins.create  # what it makes can be saved, see "Save, load and export"
network = create("denoisers", "bounded-dncnn", in_channels=2, depth=3, filters=24)
contracting = create(
    "denoisers",
    "convex-potential",
    in_channels=2,
    contraction=0.99,
    pretrained=None,
    layers=2,
)
solvers = {
    "solver": deq.Anderson(history_size=5, max_iter=20, rtol=1e-3),
    "adjoint": deq.Implicit(deq.GMRES(max_iter=10, rtol=1e-1)),
    "on_failure": "ignore",  # the metric Converged counts the failures instead
}
models = {
    "deq-pgd": create("reconstructors", "deq-pgd", denoiser=network, **solvers),
    "certified-deq-pgd": create(
        "reconstructors",
        "certified-deq-pgd",
        denoiser=contracting,
        sigma_denoiser=0.1,
        **solvers,
    ),
}
ridge = create(
    "reconstructors",
    "certified-ridge-gd",
    noise_level=NOISE_LEVEL,
    lambda_reg=0.03,  # for blurs a smaller one is the default
    in_channels=2,
    stepsize=1.0,
).to(device)

# %%
# Training
# --------
# ``Converged`` is the fraction of the slices whose iteration met the tolerance.

for (name, model), lr in zip(models.items(), (3e-3, 3e-2), strict=True):
    print(name)
    dinv.Trainer(
        model.to(device),
        physics,
        torch.optim.Adam(model.parameters(), lr),
        DataLoader(Slices(), batch_size=BATCH, shuffle=True),
        epochs=EPOCHS,
        losses=dinv.loss.SupLoss(),
        online_measurements=True,
        physics_generator=masks,
        metrics=[dinv.metric.PSNR(complex_abs=True), deq.loss.Converged()],
        device=device,
        save_path=None,
        show_progress_bar=False,
        non_blocking_transfers=False,
    ).train()
models["certified-ridge-gd"] = ridge

# %%
# Several coils
# -------------
# The image has two channels for any number of coils, so that a model that was trained
# with one coil reconstructs with several. For a training with several coils, give the
# Trainer this physics instead; the masks are drawn in the same way.
#
# The maps here are those of :func:`~deepinv_equilibrium.physics.birdcage_coil_maps`.
# Maps of your own are complex, of shape ``(N, H, W)`` or, for a batch,
# ``(B, N, H, W)``. If the sum of their squared magnitudes is 1 at each pixel, then
# :math:`\|A\| \leq 1` and the step size 1 fits. For other maps divide by the square
# root of this sum, or build the model with ``stepsize="auto"``.

coil_maps = deq.physics.birdcage_coil_maps(COILS, (SIZE, SIZE), device=device)
# A measurement needs the mask with which it was made: keep both in one file. The
# Trainer has left the masks of the last batch in the physics. A new physics without a
# mask measures everything: it takes columns that are missing for zeros, without an
# error.
mask = masks.step(batch_size=1, seed=5)["mask"]
physics.update(mask=mask)
several_coils = dinv.physics.MultiCoilMRI(
    mask=mask, coil_maps=coil_maps, noise_model=physics.noise_model, device=device
)


def magnitude(x: Tensor) -> Tensor:
    """Return the magnitude of images of shape (B, 2, H, W)."""
    return torch.linalg.vector_norm(x, dim=1, keepdim=True)


psnr = dinv.metric.PSNR()
shown = {"truth": magnitude(truth)}
for coils, scan in {"one coil": physics, f"{COILS} coils": several_coils}.items():
    y = scan(truth)
    shown[f"{coils}, zero-filled"] = magnitude(scan.A_adjoint(y))
    for name, model in models.items():
        with torch.no_grad():
            shown[f"{coils}, {name}"] = magnitude(model(y, scan))
        print(f"{coils}, {name}: {model.solution.status[0].name}")
titles = {"truth": "truth"}
for name, x in list(shown.items())[1:]:
    value = psnr(x, shown["truth"]).item()
    print(f"{name:30s}{value:.2f} dB")
    titles[name] = f"{name}\n{value:.2f} dB"
pictures = [
    name for name in shown if name.endswith(("truth", "filled", "certified-ridge-gd"))
]
figure, panels = plt.subplots(1, 5, figsize=(12, 2.9), layout="constrained")
for axes, name in zip(panels, pictures, strict=True):
    axes.imshow(shown[name][0, 0].cpu().numpy(), cmap="gray", vmin=0, vmax=1)
    axes.set_title(titles[name])
    axes.axis("off")
figure.savefig("mri_own_slices.png", dpi=110)

# %%
# Measured k-space
# ----------------
# Measurements of a scanner enter as :math:`y`, with zeros where nothing was measured:
# of shape ``(B, 2, H, W)`` for one coil and ``(B, 2, N, H, W)`` for several. deepinv's
# Fourier transform is centred and orthonormal. With NumPy it reads as follows. Divide
# the measurements by the number by which the slices of the training were divided.

kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(head), norm="ortho"))
y = as_channels(kspace[None]).to(device) * physics.mask
print(f"largest difference {(y - physics.A(truth)).abs().max():.0e}")
with torch.no_grad():
    x = models["certified-deq-pgd"](y, physics)

# %%
# What is proved
# --------------
# The certificate of a contracting model holds for the mask that it was made for. It
# states the rate, and by how much the image can change if the measurement changes.

contracts = models["certified-deq-pgd"]
certificate = deq.certify(contracts, physics, img_size=(2, SIZE, SIZE))
print(certificate)

# %%
# :func:`~deepinv_equilibrium.physics.any_mask` stands for every mask with the entries
# 0 and 1, so the rate holds for all masks that were drawn above, and all others. It
# holds for several coils, too.

for name in ("certified-ridge-gd", "certified-deq-pgd"):
    for scan in (several_coils, physics):
        every_mask = deq.physics.any_mask(scan)
        certificate = deq.certify(models[name], every_mask, img_size=(2, SIZE, SIZE))
        print(f"{name} {certificate.convergence}, rate {certificate.rate.value:.6f}")

# %%
# The proof is about plain steps, of which a rate near 1 may need many.
# :class:`Safeguarded <deepinv_equilibrium.Safeguarded>` keeps the proved rate and lets
# Anderson propose: it cannot fail, and mostly needs few evaluations. The rate of this
# network is the same for all weights, so it can also be set before the training.

safeguarded = deq.Safeguarded(deq.Anderson(), certificate.rate, max_iter=2000)
contracts.DEQ = deq.Equilibrium(safeguarded)
with torch.no_grad():
    x = contracts(y, physics)
print(contracts.solution.status[0].name, contracts.solution.evaluations[0].item())
deq.save(contracts, "mri_own_slices.pt")

# %%
# The certificate holds for each scan with another mask, so that it also bounds the
# distance of an image from the exact reconstruction of this scan.

(distance,) = certificate.distance(contracts, y, physics, x)
print(f"distance {distance}, norm of the image {x.norm().item():.1f}")

# %%
# For the other model no rate below 1 is proved. Its iteration may converge or not, for
# each slice; the statuses above say so, and :doc:`/user_guide/asking` tells more.

certificate = deq.certify(models["deq-pgd"], physics, img_size=(2, SIZE, SIZE))
print(certificate.convergence, certificate.rate)
