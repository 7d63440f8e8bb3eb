r"""
Train with DRUNet
=================

This page trains an equilibrium model whose denoiser is a DRUNet
:footcite:p:`zhang2021plug`. It first measures time and memory of one training step
for the full-size network, with several gradients. Then it trains, with what has to be
watched. Nothing is downloaded: the full-size network has random weights, which cost
the same, and the training uses the small DRUNet of this package. For the full-size
network with deepinv's weights, replace the line that is marked below.
"""

import time

import deepinv as dinv
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import deepinv_equilibrium as deq

SIZE = 32  # of the training images: at least 32 and a multiple of 8, see below
LAYERS, RESTARTS = 2, 3  # K and T of ReTune
STEPS, BATCH = 6, 2

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
noise = dinv.physics.GaussianNoise(0.05, rng=torch.Generator(device).manual_seed(0))
physics = deq.physics.ChannelwiseBlur(noise_model=noise, device=device)


def build(denoiser: dinv.models.Denoiser, configuration: object) -> deq.optim.PGD:
    """Return plug-and-play proximal gradient descent at equilibrium."""
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        stepsize=1.0,
        sigma_denoiser=0.05,
        trainable_params=["stepsize", "g_param"],
        DEQ=configuration,
    ).to(device)


# %%
# What a training step costs
# --------------------------
# Each configuration makes ``LAYERS * RESTARTS`` evaluations of the network in the
# forward pass. The implicit gradient makes three products with the Jacobian. The memory
# is that of the tensors that autograd saves for the backward pass, without the
# weights. On a GPU, ``torch.cuda.max_memory_allocated()`` is the whole.

evaluations = LAYERS * RESTARTS
plain = deq.Picard(max_iter=evaluations, rtol=0.0)
ignore = {"on_failure": "ignore"}  # random weights: only the cost matters here
implicit = deq.Implicit(deq.GMRES(max_iter=3, rtol=0.0))
configurations = {
    "unrolled": deq.Equilibrium(plain, deq.Unrolled(), **ignore),
    "ReTune": deq.ReTune(LAYERS, RESTARTS, **ignore),
    "Jacobian-free": deq.Equilibrium(plain, deq.JacobianFree(), **ignore),
    "implicit": deq.Equilibrium(plain, implicit, **ignore),
}


def saved_mebibytes(model: deq.optim.PGD, y: Tensor) -> tuple[Tensor, float]:
    """Return the image of a model and the size of what autograd saves."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    sizes: dict[int, int] = {}

    def note(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        x = model(y, physics)
    return x, sum(sizes.values()) / 2**20


drunet = dinv.models.DRUNet(pretrained=None)
count = sum(weight.numel() for weight in drunet.parameters())
print(
    f"{count / 1e6:.1f} million weights; with gradients and two moments of Adam "
    f"{16 * count / 2**20:.0f} MiB"
)
y = physics(torch.rand(1, 3, SIZE, SIZE, device=device))
for name, configuration in configurations.items():
    model = build(drunet, configuration)
    start = time.perf_counter()
    x, mebibytes = saved_mebibytes(model, y)
    x.square().mean().backward()
    seconds = time.perf_counter() - start
    print(f"{name:14s}{mebibytes:7.1f} MiB  {seconds:5.2f} s")

# %%
# The memory of unrolling grows with the number of evaluations, that of ReTune with
# ``LAYERS``, and that of the other two is one evaluation. :doc:`/user_guide/adjoints`
# explains what each of them leaves out of the gradient.
#
# Training
# --------
# - **Sizes.** In eval mode deepinv's DRUNet cuts images with a side below 32, or
#   that is no multiple of 8, into overlapping parts. It is then another map than
#   in training. ``SmallDRUNet`` is the same map in both modes.
# - **Two parameter groups.** Step size and noise level are learned as logarithms: a
#   learning rate of 1e-2 changes them by one per cent a step. The network needs a far
#   smaller one.
# - **Clipping.** ``grad_clip`` bounds the norm of the gradient. Near a step that does
#   not contract, single samples have large gradients.
# - **The step size** has to stay below :math:`2 / \|A\|^2`. Training does not enforce
#   this; ``stepsize="auto"`` does, see :doc:`/user_guide/certificates`.

denoiser = deq.models.SmallDRUNet()  # or dinv.models.DRUNet(pretrained="download")
configuration = deq.ReTune(LAYERS, RESTARTS, rtol=1e-2)
model = build(denoiser, configuration)
optimizer = torch.optim.Adam(
    [
        {"params": model.params_algo.parameters(), "lr": 1e-2},
        {"params": model.prior.parameters(), "lr": 5e-5},
    ]
)
photos = deq.datasets.Photos("train", img_size=SIZE, crops=STEPS * BATCH)
held_out = deq.datasets.Photos("validation", img_size=SIZE, crops=4)
trainer = dinv.Trainer(
    model,
    physics,
    optimizer,
    DataLoader(photos, batch_size=BATCH),
    epochs=1,
    losses=dinv.loss.SupLoss(),
    eval_dataloader=DataLoader(held_out, batch_size=4),
    metrics=[dinv.metric.PSNR(), deq.loss.Converged(), deq.loss.FinalResidual()],
    online_measurements=True,
    grad_clip=1.0,
    check_grad=True,  # needed with grad_clip, and prints the norm of the gradient
    device=device,
    save_path=None,
    show_progress_bar=False,
    non_blocking_transfers=False,
)
trainer.train()
print(
    "step size, noise level:",
    *(f"{model.params_algo[name][0].item():.4f}" for name in ("stepsize", "g_param")),
)

# %%
# What to watch
# -------------
# - ``Converged``, the fraction of the samples that met ``rtol``, and ``FinalResidual``
#   in the lines above. If the residual rises while the loss falls, then the model
#   learns a good image after ``RESTARTS`` blocks, and not a fixed point.
# - Now and then, :func:`~deepinv_equilibrium.check_well_posed`: whether the iterates
#   converge, and to the same image from several starts.
# - :func:`~deepinv_equilibrium.estimate_rate`: the norm of the Jacobian of a block at
#   the solution, an estimate. Below 1 the block contracts near the solution. Above 1,
#   as may happen when the network learns, it need not.

x = held_out[0]["x"][None].to(device)
y = physics(x)
solver = deq.Anderson(rtol=1e-5)
print(deq.check_well_posed(model, y, physics, starts=2, solver=solver))
print("rate of a block", deq.estimate_rate(model, y, physics, steps=30))
