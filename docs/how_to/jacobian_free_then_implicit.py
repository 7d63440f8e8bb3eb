r"""
Start Jacobian-free, finish with the implicit gradient
======================================================

Early in a training the gradient need not be exact, and the Jacobian-free one costs a
single recorded step :footcite:p:`fung2022jfb`. Near the end its error decides which
weights are found. This page changes the gradient of a model between two phases of one
training by setting ``model.DEQ``. It measures the errors of both gradients and what
they cost.
"""

import deepinv as dinv
import torch
from torch.utils.data import DataLoader

import deepinv_equilibrium as deq
from deepinv_equilibrium.diagnostics import backward_error

SIZE, BATCH = 40, 2
STEPS = {"Jacobian-free": 6, "implicit": 4}  # of the optimiser in each phase
NOISE_LEVEL = 0.05

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
noise = dinv.physics.GaussianNoise(
    NOISE_LEVEL, rng=torch.Generator(device).manual_seed(0)
)
physics = deq.physics.ChannelwiseBlur(noise_model=noise, device=device)

# %%
# Two configurations of one model
# -------------------------------
# The solver is the same, so the fixed point is the same, too. Only the gradient
# differs. See :doc:`/user_guide/adjoints` for other ones: ``JacobianFree(steps=5)``
# and ``Neumann(5)`` are between these two.

solver = deq.Anderson(rtol=1e-3, max_iter=60)
configurations = {
    "Jacobian-free": deq.Equilibrium(solver, deq.JacobianFree()),
    "implicit": deq.Equilibrium(solver, deq.Implicit(deq.GMRES(rtol=1e-2))),
}
model = deq.plugins.create(
    "reconstructors",
    "certified-deq-pgd",
    sigma_denoiser=NOISE_LEVEL,
    trainable_params=["g_param"],
).to(device)
