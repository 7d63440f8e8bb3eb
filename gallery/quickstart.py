r"""
Quickstart: deblurring photos at equilibrium
============================================

A plug-and-play method restores an image by the fixed point of an
iteration. Here the iteration is forward-backward splitting with a
denoiser :math:`\operatorname{D}_\sigma` in place of the proximal map,

.. math::

    x = \operatorname{D}_\sigma(x - \tau A^\top (A x - y)),

as in the deblurring experiment of the ReTune paper
:footcite:p:`davy2025restarted`. This page restores photos that no training
has seen, with the default parameters, with parameters that were learned, and
with a denoiser that was learned as a part of the iteration. Then it learns
the parameters itself. Nothing is downloaded. From a clone of the repository,
``python gallery/quickstart.py`` runs this page in less than two minutes on
two cores and writes ``quickstart.png``.
"""

import deepinv as dinv
import matplotlib.pyplot as plt
import torch
from torch.utils.data import DataLoader

import deepinv_equilibrium as deq

SIZE = 128  # of the photos
STEPS = 15  # of the training
device = "cuda" if torch.cuda.is_available() else "cpu"

# %%
# The problem
# -----------
# Each colour is blurred over 25 pixels in its own direction: red
# horizontally, green vertically and blue diagonally. White noise of
# standard deviation 0.05 is added. The photos come with scikit-image.

noise = dinv.physics.GaussianNoise(0.05, rng=torch.Generator(device).manual_seed(0))
physics = deq.physics.ChannelwiseBlur(noise_model=noise, device=device)
photos = deq.datasets.Photos("test", img_size=SIZE)
truth = torch.stack([sample["x"] for sample in photos]).to(device)
degraded = physics(truth)

# %%
# Three models
# ------------
# A model is built like :class:`deepinv.optim.PGD`. The last argument makes it
# an equilibrium model: with :class:`ReTune <deepinv_equilibrium.ReTune>` a block
# of :math:`K = 10` iterations is applied :math:`T = 10` times. In a training,
# only the last application is recorded for the gradient.
#
# - **defaults**: the noise level of the measurement and the step size 1,
# - **(b)**: :math:`\sigma` and :math:`\tau` were learned on BSD400,
# - **(c)**: then the denoiser was learned, too, as a part of the iteration.


def build(denoiser, sigma, tau, layers=10, restarts=10):
    """Return plug-and-play forward-backward splitting."""
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        stepsize=tau,
        sigma_denoiser=sigma,
        trainable_params=["stepsize", "sigma_denoiser"],
        DEQ=deq.ReTune(layers, restarts),
    ).to(device)


SIGMA, TAU = 0.0331, 1.788  # learned by gallery/training/restart_sweep.py
SmallDRUNet = deq.models.SmallDRUNet
models = {
    "defaults": build(SmallDRUNet(), 0.05, 1.0),
    "(b)": build(SmallDRUNet(), SIGMA, TAU),
    "(c)": build(SmallDRUNet(pretrained="deblurring"), SIGMA, TAU),
}

# %%
# Restoration
# -----------
# The report says for each photo how far its restoration is from a fixed
# point: the residual is the distance by which one more block would move it,
# relative to its size. ``COMPLETED`` means that the requested number of
# blocks was applied; it does not claim convergence.

psnr = dinv.metric.PSNR()
images = {"truth": truth, "degraded": degraded}
print("Mean PSNR of the photos in dB")
print(f"degraded   {psnr(degraded, truth).mean():.2f}")
for name, model in models.items():
    with torch.no_grad():
        images[name] = model(degraded, physics)
    print(f"{name:9s}  {psnr(images[name], truth).mean():.2f}")
print(models["(c)"].solution)

# %%
# The two learned numbers gain 1.1 dB over the defaults, and the learned
# denoiser .6 dB more. Its restorations are also nearly fixed points: it was
# trained to restore by its 100 iterations. :doc:`/experiments` compares such
# denoisers, for fewer iterations, with controls that learn the two numbers for as
# long.
#
# Training
# --------
# The following training learns :math:`\sigma` and :math:`\tau` from the
# defaults, on crops of other photos. The gradient step on the data is
# nonexpansive only for :math:`\tau \leq 2 / \|A\|^2`, and the norm of this blur
# is 1: a hook of the optimiser projects :math:`\tau` after each step.

torch.manual_seed(0)
learned = build(SmallDRUNet(), 0.05, 1.0, layers=5, restarts=4)
learned.prior.requires_grad_(False)
step_size = learned.params_algo["stepsize"]
optimizer = torch.optim.Adam(learned.params_algo.parameters(), 0.1, betas=(0.5, 0.9))
optimizer.register_step_post_hook(lambda *_: step_size.clamp_(max=1.8))
crops = deq.datasets.Photos("train", img_size=64, crops=4 * STEPS)
dinv.Trainer(
    learned,
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
learned.eval().DEQ = deq.ReTune(10, 10)
with torch.no_grad():
    found = psnr(learned(degraded, physics), truth).mean()
sigma, tau = (learned.params_algo[name][0] for name in ("g_param", "stepsize"))
print(f"learned here: {found:.2f} dB with sigma {sigma:.3f} and tau {tau:.2f}")

# %%
# The images
# ----------

figure, axes = plt.subplots(1, 5, figsize=(14, 3.4), layout="constrained")
for axis, (name, image) in zip(axes, images.items(), strict=True):
    axis.imshow(image[0].clamp(0, 1).permute(1, 2, 0).numpy(force=True))
    axis.set_axis_off()
    value = "" if name == "truth" else f", {psnr(image[:1], truth[:1]).item():.2f} dB"
    axis.set_title(name + value)
figure.savefig("quickstart.png", dpi=110)

# %%
# .. footbibliography::
