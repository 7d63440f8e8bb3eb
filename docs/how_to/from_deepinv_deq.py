r"""
From deepinv's ``DEQ=True`` to this package
===========================================

This page takes an equilibrium model of :mod:`deepinv.optim` to this package. One import
changes, and later one argument. Checkpoints and training scripts stay. The page
compares the results, prints the new report, and counts how often the denoiser is
evaluated. Which options are mapped, which are refused, and how training scripts
differ is listed in :doc:`/user_guide/deepinv_options`.
"""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import deepinv as dinv
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import deepinv_equilibrium as deq

SIZE = 40

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
noise = dinv.physics.GaussianNoise(0.05, rng=torch.Generator(device).manual_seed(0))
physics = deq.physics.ChannelwiseBlur(noise_model=noise, device=device)
truth = deq.datasets.Photos("validation", img_size=SIZE)[0]["x"][None].to(device)
y = physics(truth)

# %%
# The model in deepinv
# --------------------
# ``settings`` are the arguments of your model.

settings: dict[str, Any] = {
    "data_fidelity": dinv.optim.L2(),
    "stepsize": 1.0,
    "sigma_denoiser": 0.05,
    "trainable_params": ["stepsize", "g_param"],
    "max_iter": 30,
    "early_stop": True,
    "thres_conv": 1e-3,
}


def prior() -> dinv.optim.PnP:
    """Return a denoiser in place of a proximal operator."""
    return dinv.optim.PnP(deq.models.SmallDRUNet())


theirs = dinv.optim.PGD(prior=prior(), DEQ=True, **settings).to(device)
checkpoint = Path(tempfile.mkdtemp()) / "model.pt"
torch.save(theirs.state_dict(), checkpoint)

# %%
# One import
# ----------
# ``deq.optim`` in place of ``dinv.optim``. The arguments keep their meaning, and the
# ``state_dict`` has the same keys, so that the checkpoint loads.

ours = deq.optim.PGD(prior=prior(), DEQ=True, **settings).to(device)
print(ours.load_state_dict(torch.load(checkpoint, weights_only=True)))

# %%
# One argument
# ------------
# :class:`~deepinv_equilibrium.Equilibrium` has the solver and the adjoint, and their
# numbers in place of ``max_iter``, ``early_stop`` and ``thres_conv``.

for option in ("max_iter", "early_stop", "thres_conv"):
    del settings[option]
configuration = deq.Equilibrium(
    deq.Anderson(max_iter=30, rtol=1e-3), deq.Implicit(deq.GMRES(rtol=1e-2))
)
chosen = deq.optim.PGD(prior=prior(), DEQ=configuration, **settings).to(device)
chosen.load_state_dict(torch.load(checkpoint, weights_only=True))

# %%
# Results and cost
# ----------------
# Hooks count the evaluations of the denoiser and the products with its Jacobian.


def count(model: dinv.optim.PGD) -> tuple[Tensor, int, int, list[str]]:
    """Return the image, the numbers of evaluations and products, and warnings."""
    evaluations = products = 0

    def note_product(_: Tensor) -> None:
        nonlocal products
        products += 1

    def note_evaluation(_module: object, _inputs: object, output: Tensor) -> None:
        nonlocal evaluations
        evaluations += 1
        if output.requires_grad:
            output.register_hook(note_product)

    hook = model.prior[0].denoiser.register_forward_hook(note_evaluation)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        x = model(y, physics)
        (x - truth).square().mean().backward()
    hook.remove()
    return x.detach(), evaluations, products, [str(w.message) for w in caught]


psnr = dinv.metric.PSNR()
models = {"deepinv": theirs, "DEQ=True": ours, "Equilibrium": chosen}
images = {}
for name, model in models.items():
    images[name], evaluations, products, messages = count(model)
    value = psnr(images[name], truth).item()
    print(f"{name}: {value:.2f} dB, {evaluations} evaluations, {products} products")
    print(*messages, sep="\n")

# %%
# With ``DEQ=True`` both packages make the same iteration, which has not converged
# after ``max_iter`` steps. deepinv's model does not say so. This package warns of
# the solve and of the gradient, and names a remedy. With the solver and the adjoint of
# ``configuration`` both converge, with half of the evaluations.
#
# The report
# ----------
# ``model.solution`` has the status, the residual and the cost for each sample, and the
# same for the gradient. See :doc:`/user_guide/report`.

for name in ("DEQ=True", "Equilibrium"):
    print(f"{name}\n{models[name].solution}\n")

# %%
# Training
# --------
# The Trainer is called as before. Three metrics of this package follow the solves, see
# :doc:`/user_guide/training`.

photos = deq.datasets.Photos("train", img_size=SIZE, crops=4)
chosen = dinv.Trainer(
    chosen,
    physics,
    torch.optim.Adam(chosen.parameters(), lr=1e-4),
    DataLoader(photos, batch_size=2),
    epochs=1,
    losses=dinv.loss.SupLoss(),
    online_measurements=True,
    metrics=[dinv.metric.PSNR(), deq.loss.Converged()],
    device=device,
    save_path=None,
    show_progress_bar=False,
    non_blocking_transfers=False,
).train()

# %%
# The trained weights load into deepinv's model again, with natural values of the step
# size and the noise level.

print(theirs.load_state_dict(chosen.state_dict()))
print(f"step size {theirs.params_algo['stepsize'][0].item():.4f}")
