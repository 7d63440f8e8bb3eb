r"""
GPU, mixed precision and compile
================================

The page moves a model to a GPU, shows which tolerance each precision can
reach, restores in half precision, and compiles the denoiser. It runs on a CPU
as well. Replace ``build`` by your model, and ``physics`` and
``y`` by your data.
"""

import time
import warnings
from textwrap import fill

import deepinv as dinv
import matplotlib.pyplot as plt
import torch

import deepinv_equilibrium as deq

SIZE = 32  # of the photo
ITERATIONS = 60
# "inductor" generates code for the device and needs a compiler for C++ on a CPU;
# "eager" only records the calls of the network.
BACKEND = "inductor" if torch.cuda.is_available() else "eager"
device = "cuda" if torch.cuda.is_available() else "cpu"

# %%
# Device
# ------
# Model, physics and measurement must be on the same device. The random
# generator of a noise model is made on the device.


def build(solver: deq.fixed_points.FixedPointSolver) -> deq.optim.PGD:
    """Return a model with a denoiser that contracts."""
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(deq.models.ConvexPotentialDenoiser(1, contraction=0.9)),
        stepsize=1.0,
        sigma_denoiser=0.05,
        trainable_params=["stepsize"],
        DEQ=deq.Equilibrium(solver),
    ).to(device)


def blur(dtype: torch.dtype) -> dinv.physics.BlurFFT:
    """Return a circular blur with noise."""
    kernel = dinv.physics.functional.gaussian_blur(sigma=1.0).to(dtype)
    rng = torch.Generator(device).manual_seed(0)
    noise = dinv.physics.GaussianNoise(0.05, rng=rng)
    return dinv.physics.BlurFFT((1, SIZE, SIZE), kernel, noise_model=noise).to(device)


physics = blur(torch.float32)
photo = deq.datasets.Photos("test", grey=True, img_size=SIZE)[0]["x"][None].to(device)
y = physics(photo)

model = build(deq.Anderson(rtol=1e-4))
with torch.no_grad():
    x = model(y, physics)
print(x.device, x.dtype)
print(model.solution)

# %%
# ``Trainer(device=device)`` moves the batches; move the model and the physics
# yourself. The report stays on the device: printing it, or
# ``model.solution.residual.tolist()``, waits for the device.
# :doc:`/user_guide/accelerators` says what else a solve reads, and why
# ``ReTune`` reads nothing.
#
# Tolerances and precision
# ------------------------
# The residual of a solve stops falling where the rounding of the step is
# reached. The curves show the plain iteration in float64, in float32, and with
# a network in bfloat16.
#
# A physics with a complex part, such as the transfer function of ``BlurFFT``,
# is built anew for another precision: ``physics.to(torch.float64)`` would drop
# the imaginary part.

plain = build(deq.Picard(max_iter=ITERATIONS, rtol=0.0))  # a fixed budget
curves = {}
for name, dtype in (("float64", torch.float64), ("float32", torch.float32)):
    plain = plain.to(dtype)
    with torch.no_grad():
        plain(y.to(dtype), blur(dtype))
    curves[name] = plain.solution.history[:, 0].cpu()
with torch.no_grad(), torch.autocast(device, torch.bfloat16):
    plain(y, physics)
curves["bfloat16 network"] = plain.solution.history[:, 0].cpu()

figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
for name, curve in curves.items():
    axis.semilogy(curve, label=name)
    print(f"{name:17s} smallest residual {curve.min():.0e}")
axis.set(xlabel="iteration", ylabel="relative residual")
axis.legend()
figure.savefig("precisions.png", dpi=110)

# %%
# A tolerance below the floor is not met: the sample ends as ``MAX_ITER``,
# and the report says that the residual has stopped falling. Set ``rtol`` above
# the floor, ``1e-4`` in float32 for example, or convert model, physics and
# measurement to float64.
#
# Mixed precision
# ---------------
# ``torch.autocast`` applies to the networks of a step. The state, the solver,
# the adjoint and the operators of a linear physics keep the precision of the
# measurement, and the image is float32.
#
# Where the residual stops falling, the solver evaluates the step once in the
# precision of the state and measures the difference, ``solution.noise``. A
# sample whose residual is at most 1.5 times this noise counts as converged,
# with one warning if it is above ``rtol``. A solve with a fixed budget, such as
# ``ReTune``, measures nothing.

with (
    warnings.catch_warnings(record=True) as caught,
    torch.no_grad(),
    torch.autocast(device, torch.bfloat16),
):
    warnings.simplefilter("always")
    half = model(y, physics)
report = model.solution
print(half.dtype, report.status[0].name)
print(f"residual {report.residual.item():.1e}, noise {report.noise.item():.1e}")
print(f"difference from float32 {(half - x).norm() / x.norm():.1e}")
for warning in caught:
    print(fill(str(warning.message), 72))

# %%
# A training needs one argument, ``dinv.Trainer(..., mixed_precision=
# "bfloat16")``, or ``"float16"``. deepinv then warns that this is experimental.
# In float16, a loss that overflows makes the gradient NaN, as elsewhere in
# torch, so that the ``Trainer`` skips the update and reduces the scale of the
# loss. Outside autocast, a step must return the precision of its state: a
# float32 network in a step with a float64 state is refused.
# :doc:`/benchmarks` compares gradients and trained models with float32.
#
# Compile the denoiser
# --------------------
# The denoiser takes nearly all of the time, and is what ``torch.compile`` can
# make faster; the solver and the physics stay as they are. ``compile`` of the module
# changes neither the names of its weights nor its certificate. The first call
# takes long, and a new size of the images compiles again. With the backend
# ``"eager"``, which this page uses without a GPU, only the result can be
# compared.

drunet = deq.optim.PGD(
    data_fidelity=dinv.optim.L2(),
    prior=dinv.optim.PnP(deq.models.SmallDRUNet(1)),
    stepsize=1.0,
    sigma_denoiser=0.05,
    trainable_params=["stepsize"],
    DEQ=deq.ReTune(layers=5, restarts=2),
).to(device)
images = {}
for name in ("not compiled", "compiled"):
    if name == "compiled":
        drunet.prior[0].denoiser.compile(backend=BACKEND)
    for _ in range(2):  # the first call compiles
        start = time.perf_counter()
        with torch.no_grad():
            images[name] = drunet(y, physics)
        mean = images[name].mean().item()  # waits for the device
        seconds = time.perf_counter() - start
    print(f"{name:12s} {seconds:.2f} s, mean {mean:.6f}")
