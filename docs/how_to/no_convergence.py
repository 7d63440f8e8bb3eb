r"""
What to do when a model does not converge
=========================================

The report of a solve says which samples have not converged, and how the solve
ended; :doc:`/user_guide/report` lists the statuses. This page has three models
that fail for different reasons, and tries the remedies in the order of their
costs: step size, number of iterations and solver, then the questions
whether there is a fixed point at all, and then other models. Replace
``physics``, ``y`` and the denoiser by yours.
"""

import warnings
from collections import Counter
from textwrap import fill

import deepinv as dinv
import matplotlib.pyplot as plt
import torch

import deepinv_equilibrium as deq

SIZE = 32  # of the photos
STEPS = 40  # of the training at the end
device = "cuda" if torch.cuda.is_available() else "cpu"

photos = deq.datasets.Photos("test", grey=True, img_size=SIZE)
truth = torch.stack([photos[index]["x"] for index in range(3)]).to(device)
physics = dinv.physics.BlurFFT(
    (1, SIZE, SIZE),
    filter=dinv.physics.functional.gaussian_blur(sigma=1.0),
    noise_model=dinv.physics.GaussianNoise(
        0.05, rng=torch.Generator(device).manual_seed(0)
    ),
    device=device,
)
y = physics(truth)


def build(
    denoiser: torch.nn.Module,
    solver: deq.fixed_points.FixedPointSolver,
    stepsize: float | str = 1.0,
    on_failure: str = "ignore",
) -> deq.optim.PGD:
    """Return plug-and-play proximal gradient descent."""
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser),
        stepsize=stepsize,
        sigma_denoiser=0.05,
        trainable_params=["stepsize"],
        DEQ=deq.Equilibrium(solver, on_failure=on_failure),
    ).to(device)


psnr = dinv.metric.PSNR()
histories = {}


def show(name: str, model: deq.optim.PGD) -> None:
    """Restore the photos, and print how the solves ended."""
    with torch.no_grad():
        restored = model(y, physics)
    report = model.solution
    histories[name] = report.history[:, 0].cpu()
    counts = Counter(status.name for status in report.status)
    ends = ", ".join(f"{count} {status}" for status, count in counts.items())
    print(
        f"{name:25s} {ends:23s} {report.residual.max():.0e} "
        f"{report.iterations.max():5d} {psnr(restored, truth).mean():7.2f}"
    )


# %%
# The report and the warning
# --------------------------
# With the default ``on_failure="warn"`` a failure issues a warning, which
# names the remedies; ``"raise"`` raises a :class:`ConvergenceError
# <deepinv_equilibrium.ConvergenceError>`. The model below has a step size
# that is too large.

drunet = deq.models.SmallDRUNet(1)
model = build(drunet, deq.Picard(), stepsize=2.5, on_failure="warn")
with warnings.catch_warnings(record=True) as caught, torch.no_grad():
    warnings.simplefilter("always")
    model(y, physics)
print(fill(str(caught[0].message), 72))
print(model.solution)

# %%
# 1. The step size
# ----------------
# A gradient step on the data is nonexpansive only for :math:`\tau \leq 2 / L`,
# with the largest eigenvalue :math:`L` of :math:`A^\top A`.
# :func:`spectrum <deepinv_equilibrium.spectrum>` computes it. With
# ``stepsize="auto"`` the model chooses the step size for each physics, and
# training keeps it below the limit. The choice makes the rate that can be
# proved small; a smaller step size may need fewer iterations.

L = deq.spectrum(physics, img_size=(1, SIZE, SIZE)).upper
print(f"L {L}\n")
print("model                     samples              residual steps PSNR / dB")
show("step size 2.5", build(drunet, deq.Picard(), stepsize=2.5))
show("step size 1", build(drunet, deq.Picard(), stepsize=1.0))
show("step size auto", build(drunet, deq.Picard(), stepsize="auto"))

# %%
# 2. More iterations, or another solver
# -------------------------------------
# A solve that ends as ``MAX_ITER`` while its residual falls needs more
# iterations, a larger tolerance, or an accelerated solver. Acceleration
# also finds fixed points that the plain iteration leaves, as for the step size
# 2.5. This is worth a try, but the next measurement may fail.

show("Picard, 10 iterations", build(drunet, deq.Picard(max_iter=10)))
show("Picard, 100 iterations", build(drunet, deq.Picard(max_iter=100)))
show("Anderson, 10 iterations", build(drunet, deq.Anderson(max_iter=10)))
show("Anderson, step size 2.5", build(drunet, deq.Anderson(), stepsize=2.5))

# %%
# 3. Is there a fixed point?
# --------------------------
# Neither helps if the network expands, for example before its training. With
# this random network, all of these step sizes and solvers fail.

torch.manual_seed(0)
dncnn = dinv.models.DnCNN(1, 1, depth=5, nf=16, bias=False, pretrained=None)
for stepsize in (1.0, 0.1):
    for solver in (deq.Picard(), deq.Picard(relaxation=0.5), deq.Anderson()):
        relaxed = ", relaxed" if getattr(solver, "relaxation", 1.0) < 1 else ""
        name = f"{type(solver).__name__}{relaxed}"
        show(f"{name}, step {stepsize:g}", build(dncnn, solver, stepsize))

# %%
# :func:`check_well_posed <deepinv_equilibrium.check_well_posed>` iterates from
# several starts, and :func:`estimate_rate <deepinv_equilibrium.estimate_rate>`
# estimates the norm of the step's Jacobian, which is above 1 if the step
# expands. The first model has one fixed point for each photo, and contracts
# there.

for name, denoiser in (("SmallDRUNet", drunet), ("random DnCNN", dncnn)):
    asked = build(denoiser, deq.Picard())
    verdicts = deq.check_well_posed(asked, y, physics, starts=2).verdict
    rate = deq.estimate_rate(asked, y[:1], physics, steps=20)
    names = {verdict.name for verdict in verdicts}
    print(f"{name:12s} rate {rate.value:.2f} ({rate.kind}),", *names)

# %%
# The residuals of the first photo:

figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for name in (
    "step size 2.5",
    "Picard, 100 iterations",
    "Anderson, 10 iterations",
    "Picard, step 1",
    "Anderson, step 1",
):
    network = ", random network" if ", step 1" in name else ""
    axis.semilogy(histories[name][:40], label=name + network)
axis.set(xlabel="iteration", ylabel="relative residual")
axis.legend(fontsize=8)
figure.savefig("no_convergence.png", dpi=110)

# %%
# 4. Contraction by construction
# ------------------------------
# A network of bounded layers contracts with all weights, so that the model
# converges before, in and after its training, and for every measurement.
# :func:`certify <deepinv_equilibrium.certify>` proves it.
# :doc:`/user_guide/denoisers` lists such denoisers, and
# :doc:`certify_own_network` treats a network of your own.

random = deq.models.ConvexPotentialDenoiser(1, contraction=0.95, pretrained=None)
safe = deq.plugins.create(
    "reconstructors", "certified-deq-pgd", denoiser=random, sigma_denoiser=0.05
).to(device)
print(deq.certify(safe, physics, img_size=(1, SIZE, SIZE)).rate)
show("random, but certified", safe)
shipped = deq.models.ConvexPotentialDenoiser(1, contraction=0.99)
show("shipped and certified", build(shipped, deq.Anderson()))

# %%
# 5. A fixed budget
# -----------------
# If no fixed point is needed, train the network for a fixed number of
# iterations. :class:`ReTune <deepinv_equilibrium.ReTune>` makes them and ends as
# ``COMPLETED``, without a warning. Its residual still says how far the image
# is from a fixed point. The training below makes the random network usable
# for this budget. It still has no fixed point to converge to: iterated on, the
# images are lost.

crops = deq.datasets.Photos("train", grey=True, img_size=SIZE, crops=4 * STEPS)
budget = build(dncnn, deq.Picard())
budget.DEQ = deq.ReTune(layers=2, restarts=2)
show("ReTune, not trained", budget)
optimizer = torch.optim.Adam(budget.parameters(), lr=2e-3)
for batch in torch.utils.data.DataLoader(crops, batch_size=4):
    x = batch["x"].to(device)
    optimizer.zero_grad()
    (budget(physics(x), physics) - x).square().mean().backward()
    optimizer.step()
show("ReTune, trained", budget)
budget.DEQ = deq.Equilibrium(deq.Picard(), on_failure="ignore")
show("the same, iterated on", budget)

# %%
# 6. Leave out the samples that fail
# ----------------------------------
# If a few samples of a training fail, ``on_failure="skip"`` warns, and these
# samples add nothing to any gradient. Below, two of three photos do not converge in
# the ten iterations, and the gradient is that of the third alone.

gradients = {}
for name, part in (("batch of three", slice(None)), ("second photo", slice(1, 2))):
    model = build(drunet, deq.Picard(max_iter=10), on_failure="skip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = (model(y[part], physics) - truth[part]).square().sum()
        loss.backward()
    gradient = next(model.params_algo["stepsize"].parameters()).grad.item()
    print(f"{name:14s} gradient of the step size {gradient:+.5f}")
