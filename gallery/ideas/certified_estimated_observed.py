r"""
Certified, estimated, observed
==============================

How far apart can a denoiser :math:`\operatorname{D}` move two images,
relative to their distance? The answer is its Lipschitz constant

.. math::

    L = \sup_{x_1 \neq x_2}
    \frac{\|\operatorname{D}(x_1) - \operatorname{D}(x_2)\|}{\|x_1 - x_2\|},

and convergence depends on it. This page computes the same constant in all
the ways that are in use, for three denoisers, and shows which of the numbers
can be wrong and in which direction. Then it does the same for what is proved
of a model: it contracts, it converges, or it decreases an energy.

Nothing is downloaded, and the page runs in half a minute on one core.
"""

import math

import deepinv as dinv
import matplotlib.pyplot as plt
import torch
from torch import Tensor
from tqdm import tqdm

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound, largest_eigenvalue
from deepinv_equilibrium.diagnostics import stretch

SIZE = 24  # of the photo
SEARCH = 4  # steps of each move of the search for a lower bound
STEPS = 80  # of the runs
SIGMA = 0.05  # noise level of the denoisers

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"

torch.manual_seed(0)
photos = deq.datasets.Photos("test", grey=True, img_size=SIZE)
photo = photos[2]["x"][None].double()
img_size = tuple(photo.shape[1:])
noise = dinv.physics.GaussianNoise(0.05, rng=torch.Generator().manual_seed(0))
box = torch.ones(1, 1, 3, 3).double() / 9  # removes a third of the frequencies
physics = dinv.physics.BlurFFT(img_size, filter=box, noise_model=noise)
measured = physics(photo)

# %%
# One constant, five numbers
# --------------------------
# - **Certified upper bound**: :func:`deepinv_equilibrium.lipschitz` proves it
#   from the weights, for all images.
# - **Estimate by Lanczos**: the largest singular value of the Jacobian at the
#   photo, with a margin so that it is too small with probability 0.001 only.
# - **Estimate by power iteration**: the same singular value, after ten steps.
# - **Observed**: the largest quotient of two successive iterates of a
#   restoration.
# - **Certified lower bound**: the largest quotient that
#   :func:`deepinv_equilibrium.diagnostics.stretch` finds. Two images prove it.
#
# The denoisers are a network that contracts by construction, a DnCNN whose
# layers are bounded, with random weights, and a DRUNet without any constraint.

denoisers = {
    "convex potential": deq.models.ConvexPotentialDenoiser(1, contraction=0.99),
    "bounded DnCNN": deq.models.BoundedDnCNN(1, depth=5, filters=12),
    "small DRUNet": deq.models.SmallDRUNet(1),
}


def gram(denoiser: torch.nn.Module, v: Tensor) -> Tensor:
    """Multiply by the Jacobian at the photo and by its transpose."""

    def denoised(x: Tensor) -> Tensor:
        return denoiser(x, SIGMA)

    image = torch.autograd.functional.jvp(denoised, photo, v)[1]
    return torch.autograd.functional.vjp(denoised, photo, image)[1]


def lanczos_estimate(denoiser: torch.nn.Module) -> float:
    """Return a probable upper bound of the Jacobian's norm at the photo."""
    generator = torch.Generator().manual_seed(0)
    square = largest_eigenvalue(
        lambda v: gram(denoiser, v), photo.shape, generator=generator
    )
    return math.sqrt(square.value)


def power_iteration(denoiser: torch.nn.Module, steps: int = 10) -> float:
    """Return an estimate of the Jacobian's norm at the photo."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(photo.shape, generator=generator, dtype=photo.dtype)
    for _ in range(steps):
        v = gram(denoiser, v / v.norm())
    return math.sqrt(float(v.norm()))


def observed_quotient(denoiser: torch.nn.Module) -> float:
    """Return the largest quotient of successive iterates of a restoration."""
    x, largest, before = measured, 0.0, None
    with torch.no_grad():
        for _ in range(20):
            u = x - physics.A_adjoint(physics.A(x) - measured)
            x = denoiser(u, SIGMA)
            if before is not None:
                quotient = (x - before[1]).norm() / (u - before[0]).norm()
                largest = max(largest, float(quotient))
            before = u, x
    return largest


numbers: dict[str, dict[str, float]] = {}
for name, denoiser in tqdm(denoisers.items(), desc="denoisers"):
    denoiser.double().eval().requires_grad_(False)
    try:
        upper = deq.lipschitz(denoiser, img_size)
    except deq.certificates.UncertifiableModuleError as error:
        upper = Bound(math.inf, source=error.reason)
    lower = stretch(denoiser, photo, SIGMA, starts=1, steps=SEARCH).lower
    numbers[name] = {
        "certified upper bound": upper.value,
        "estimate, Lanczos": lanczos_estimate(denoiser),
        "estimate, power iteration": power_iteration(denoiser),
        "observed": observed_quotient(denoiser),
        "certified lower bound": lower.value,
    }
print(f"{'':25s}" + "".join(f"{name:>17s}" for name in numbers))
for row in next(iter(numbers.values())):
    cells = "".join(f"{values[row]:17.4f}" for values in numbers.values())
    print(f"{row:25s}{cells}")

# %%
# The true constant lies between the two certified bounds, in the grey bar.
# For the first denoiser the bar is so short that the constant is known. For the
# DRUNet it has no right end: nothing is proved from above.

styles = {
    "certified upper bound": {"marker": "<", "color": BLUE, "markersize": 11},
    "estimate, Lanczos": {"marker": "s", "color": ORANGE, "markersize": 8},
    "estimate, power iteration": {"marker": "D", "color": ORANGE, "fillstyle": "none"},
    "observed": {"marker": "x", "color": GREEN, "markersize": 9},
    "certified lower bound": {"marker": ">", "color": BLUE, "markersize": 11},
}
figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
right = 1.15 * max(
    value for row in numbers.values() for value in row.values() if value < math.inf
)
OFFSETS = {"certified": 0.0, "estimate,": 0.2, "observed": -0.2}
for height, row in enumerate(reversed(numbers.values())):
    ends = [row["certified lower bound"], min(row["certified upper bound"], 2 * right)]
    axes.plot(ends, [height] * 2, color="0.85", linewidth=14, solid_capstyle="butt")
    for label, value in row.items():
        if value < math.inf:
            kwargs = {"linestyle": "", "label": label if height == 0 else None}
            level = height + OFFSETS[label.split()[0]]
            axes.plot(value, level, **styles[label], **kwargs)
        else:
            axes.text(0.99 * right, height - 0.06, "no upper bound", ha="right")
            axes.plot([], [], **styles[label], linestyle="", label=label)
axes.axvline(1, color=GREY, linewidth=1, linestyle="--")
axes.set(xlim=(0.75, right), ylim=(-0.6, len(numbers) - 0.4))
axes.set_yticks(range(len(numbers)), list(reversed(numbers)))
axes.set_xlabel("Lipschitz constant (dashed: 1)")
figure.legend(loc="outside lower center", ncols=3)
figure.savefig("certified_constant.png", dpi=110)

# %%
# .. list-table::
#    :header-rows: 1
#    :widths: 30 35 35
#
#    * - Number
#      - Too small?
#      - Too large?
#    * - certified upper bound
#      - never
#      - possible: products of norms are rarely attained
#    * - estimate, Lanczos
#      - possible for other images; at the photo with probability 0.001
#      - possible at the photo, by the margin
#    * - estimate, power iteration
#      - yes: it approaches the norm at the photo from below
#      - not above :math:`L`, but for rounding
#    * - observed
#      - yes: it knows few directions
#      - not above :math:`L`, but for rounding
#    * - certified lower bound
#      - possible: the search may miss the worst images
#      - never
#
# For the first denoiser the estimate by Lanczos is even above the certified upper
# bound, because of its margin. The DRUNet shows why an estimate is no proof. The
# power iteration at the photo and the quotients of a run are below 1, and suggest
# a contraction, while :math:`L` is certainly above 1.4.
# :doc:`/auto_gallery/ideas/refuting_contraction` refutes claims of contraction by this
# search.
#
# Contracts, converges, decreases
# -------------------------------
# The same distinction holds for models. :func:`deepinv_equilibrium.certify`
# says what is proved of the plain iteration :math:`x_{k+1} = T(x_k)`, for every
# measurement, before any run. Three models deblur the photo:
#
# - proximal gradient descent with a denoiser that contracts by 0.99,
# - the same with a denoiser that is averaged, and so nonexpansive,
# - gradient descent with a learned regulariser that is weakly convex.

common = {
    "data_fidelity": dinv.optim.L2(),
    "trainable_params": [],
    "DEQ": deq.Equilibrium(deq.Picard(max_iter=STEPS, rtol=0.0)),
}
potential = deq.models.ConvexPotentialDenoiser
models = {
    "contracting denoiser": deq.optim.PGD(
        prior=dinv.optim.PnP(potential(1, contraction=0.99)),
        stepsize=1.0,
        sigma_denoiser=SIGMA,
        **common,
    ),
    "averaged denoiser": deq.optim.PGD(
        prior=dinv.optim.PnP(potential(1)),
        stepsize=1.0,
        sigma_denoiser=SIGMA,
        **common,
    ),
    "weakly convex prior": deq.optim.GD(
        prior=deq.models.RidgeRegulariser(1, weak_convexity=1.0),
        stepsize="auto",
        lambda_reg=0.2,
        sigma_denoiser=SIGMA,
        **common,
    ),
}
psnr = dinv.metric.PSNR()
certificates, iterates = {}, {}
for name, model in models.items():
    model.double()
    certificates[name] = deq.certify(model, physics, img_size)
    step, x = model.fixed_point_problem(measured, physics)
    path = [x]
    with torch.no_grad():
        for _ in range(STEPS):
            path.append(step(path[-1]))
    iterates[name] = torch.cat(path)
    certificate = certificates[name]
    print(
        f"{name:21s} {certificate.convergence:10s} rate {certificate.rate.value:.4f} "
        f"PSNR {psnr(path[-1], photo).item():.2f} dB"
    )

# %%
# A run shows what the proof says, and how much it leaves open:
#
# - **Contracts.** The distance of successive iterates stays below
#   :math:`\rho^k r_0`. It falls much faster here, because :math:`\rho` holds for
#   the worst images.
# - **Converges.** No step increases the distance to a fixed point, and that of
#   successive iterates falls to 0. There is no curve that it must stay below:
#   the proof has no rate.
# - **Decreases.** Each step decreases the energy by at least
#   :math:`\delta \|x_{k+1} - x_k\|^2`, with the :math:`\delta` of the certificate.
#   The iterates may end in a critical point that is no minimiser, and another
#   start may lead to another one.

moves = {
    name: path.diff(dim=0).flatten(1).norm(dim=1) for name, path in iterates.items()
}
counts = torch.arange(STEPS, dtype=torch.float64)
envelope = moves["contracting denoiser"][0] * (
    certificates["contracting denoiser"].rate.value**counts
)
averaged = iterates["averaged denoiser"]
step, _ = models["averaged denoiser"].fixed_point_problem(measured, physics)
fixed = averaged[-1:]
with torch.no_grad():
    for _ in range(STEPS):  # to a fixed point, up to rounding
        fixed = step(fixed)
distances = (averaged - fixed).flatten(1).norm(dim=1)[:-1]
descent = models["weakly convex prior"]
delta = certificates["weakly convex prior"].energy.decrease.value
path = iterates["weakly convex prior"]
with torch.no_grad():
    energies = torch.stack(
        [
            descent.data_fidelity[0](x[None], measured, physics)
            + 0.2 * descent.prior[0].fn(x[None], SIGMA)
            for x in path
        ]
    ).flatten()
falls = -energies.diff()
promised = delta * moves["weakly convex prior"] ** 2
slack = 1e-12  # for rounding
kept = {
    "contracts: moves are below the envelope": (
        moves["contracting denoiser"] <= envelope + slack
    ),
    "converges: distances never increase": distances.diff() <= slack,
    "decreases: falls are above the promise": falls >= promised - slack,
}
for claim, holds in kept.items():
    print(f"{claim}: {bool(holds.all())}")

figure, panels = plt.subplots(1, 3, figsize=(10, 3.8), layout="constrained")
first = moves["contracting denoiser"]
panels[0].semilogy(counts, first, color=BLUE, label="observed")
panels[0].semilogy(
    counts, envelope, color=GREY, linestyle="--", label=r"certified: $\rho^k r_0$"
)
panels[0].set(title="contracts", ylabel=r"$\|x_{k+1} - x_k\|$")
panels[1].semilogy(
    counts,
    moves["averaged denoiser"],
    color=BLUE,
    label=r"$\|x_{k+1} - x_k\|$",
)
panels[1].semilogy(
    counts,
    distances,
    color=ORANGE,
    linestyle="--",
    label=r"$\|x_k - x^\star\|$",
)
panels[1].set(title="converges", ylabel="distance")
panels[2].semilogy(counts, falls, color=BLUE, label="observed fall of $F$")
panels[2].semilogy(
    counts,
    promised,
    color=GREY,
    linestyle="--",
    label=r"certified: $\delta \|x_{k+1} - x_k\|^2$",
)
panels[2].set(title="decreases", ylabel="$F(x_k) - F(x_{k+1})$")
for axes in panels:
    axes.set_xlabel("step $k$")
    axes.legend(fontsize=9)
figure.savefig("certified_models.png", dpi=110)

# %%
# :doc:`/user_guide/certificates` has the conditions for each of the three, and
# :doc:`/user_guide/denoisers` the proofs of the denoisers.
