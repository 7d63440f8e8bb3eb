r"""
Start Jacobian-free, finish with the implicit gradient
======================================================

The Jacobian-free gradient :footcite:p:`fung2022jfb` records one step and solves no
linear system. It is often good enough for the start of a training. Near the end, its
error decides which weights are found. This page changes the gradient between two phases
of one training: it sets ``model.DEQ``. It measures the error of each gradient and
what it costs.
"""

import time

import deepinv as dinv
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import deepinv_equilibrium as deq

SIZE, BATCH = 32, 2
STEPS = {"Jacobian-free": 5, "implicit": 5}  # of the optimiser in each phase
NOISE_LEVEL = 0.03

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
noise = dinv.physics.GaussianNoise(
    NOISE_LEVEL, rng=torch.Generator(device).manual_seed(0)
)
kernel = dinv.physics.functional.gaussian_blur(sigma=(1.2, 1.2))
physics = dinv.physics.BlurFFT(
    (1, SIZE, SIZE), kernel, noise_model=noise, device=device
)

# %%
# One model, two configurations
# -----------------------------
# The solver is the same, and so is the fixed point. Only the gradient differs.
# :doc:`/user_guide/adjoints` has gradients in between, such as
# ``JacobianFree(steps=5)`` and ``Neumann(5)``.
#
# The model is gradient descent on an energy with a learned regulariser. Its step
# contracts, and the Jacobian of its step is symmetric, so that the conjugate gradient
# method solves the linear system of the implicit gradient.

solver = deq.Anderson(rtol=3e-4, max_iter=200)
configurations = {
    "Jacobian-free": deq.Equilibrium(solver, deq.JacobianFree()),
    "implicit": deq.Equilibrium(solver, deq.Implicit(deq.CG(rtol=1e-2, max_iter=200))),
}
model = deq.optim.GD(
    data_fidelity=deq.optim.RidgeL2(kappa=1e-3),
    prior=deq.models.RidgeRegulariser(in_channels=1),
    stepsize="auto",
    lambda_reg=NOISE_LEVEL**2 / 0.15**2,
    sigma_denoiser=0.15,
    trainable_params=["lambda", "g_param"],
    DEQ=configurations["Jacobian-free"],
).to(device)

# %%
# The error of a gradient
# -----------------------
# The reference is the implicit gradient with smaller tolerances. A gradient with an
# error of 100 % can still be a direction of descent: the cosine of the angle between
# both gradients is then positive. ``evaluations`` is the number of steps of the solver,
# and ``products`` that of products with the Jacobian in the backward pass.

crops = {"grey": True, "img_size": SIZE}
validation = deq.datasets.Photos("validation", crops=2, **crops)
truth = torch.stack([sample["x"] for sample in validation]).to(device)
y = physics(truth)
reference = deq.Equilibrium(
    deq.Anderson(rtol=1e-5, max_iter=500), deq.Implicit(deq.CG(rtol=1e-4, max_iter=500))
)


def gradient(configuration: deq.Equilibrium) -> Tensor:
    """Return the gradient of the loss on the validation images."""
    model.DEQ = configuration
    loss = (model(y, physics) - truth).square().mean()
    parts = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([part.flatten() for part in parts])


def report_errors() -> None:
    """Print the errors and the cost of both gradients."""
    exact = gradient(reference)
    for name, configuration in configurations.items():
        start = time.perf_counter()
        found = gradient(configuration)
        seconds = time.perf_counter() - start
        solution = model.solution
        backward = solution.backward
        products = 0 if backward is None else int(backward.evaluations.max())
        error = (found - exact).norm() / exact.norm()
        cosine = torch.dot(found, exact) / (found.norm() * exact.norm())
        print(
            f"{name:14s}error {error:7.1%}  cosine {cosine:5.2f}  "
            f"evaluations {int(solution.evaluations.max()):3d}  "
            f"products {products:3d}  {seconds:.2f} s"
        )


report_errors()

# %%
# What is left of the error of the implicit gradient comes from the tolerances of the
# two solves, ``rtol`` of ``Anderson`` and of ``CG``.
#
# Two phases
# ----------
# ``model.DEQ = ...`` takes effect at the next call. Weights, optimiser and everything
# else stay. With :class:`deepinv.Trainer` the same is done between two calls of
# ``train()``, or in a subclass, at the start of an epoch.

optimizer = torch.optim.Adam(
    [
        {"params": model.params_algo.parameters(), "lr": 2e-2},
        {"params": model.prior.parameters(), "lr": 5e-4},
    ]
)
count = BATCH * sum(STEPS.values())
batches = iter(
    DataLoader(deq.datasets.Photos("train", crops=count, **crops), batch_size=BATCH)
)
psnr = dinv.metric.PSNR()


def validation_psnr() -> str:
    """Return the PSNR on the validation images."""
    with torch.no_grad():
        return f"{psnr(model(y, physics), truth).mean().item():.2f} dB"


print("before the training:", validation_psnr())
for name, steps in STEPS.items():
    model.DEQ = configurations[name]
    for _ in range(steps):
        x = next(batches)["x"].to(device)
        optimizer.zero_grad()
        (model(physics(x), physics) - x).square().mean().backward()
        optimizer.step()
    print(f"after {steps} steps, {name}:", validation_psnr())
report_errors()

# %%
# This training is too short to tell the gradients apart by the PSNR.
# :doc:`/auto_gallery/ideas/gradient_accuracy` compares gradients at length. For your
# model, call a function such as ``report_errors`` after an epoch: it is time for the
# second phase when the loss stalls, or when the cosine falls towards 0.
