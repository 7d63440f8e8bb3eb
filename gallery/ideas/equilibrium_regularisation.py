r"""
Equilibrium as regularisation: when the noise goes to zero
==========================================================

A deep equilibrium model need not minimise anything to be a
regularisation method :footcite:p:`obmann2023convergence`. The equation

.. math::

    A^*(A x - y) + \alpha G(x) = 0, \qquad G = I - N,

has one solution for every measurement if the network :math:`N` is a
contraction, :math:`\|N(u) - N(v)\| \leq q \|u - v\|` with
:math:`q < 1`. The solution depends continuously on the measurement. How
does it behave when the noise :math:`\|y - A x^\dagger\| \leq \delta`
vanishes? If the true image satisfies the *source condition*
:math:`G(x^\dagger) = A^* w`, then

.. math::

    \langle G(x) - G(x^\dagger), x - x^\dagger \rangle \leq
    \frac{(\delta + \alpha \|w\|)^2}{4 \alpha}, \qquad
    \|x - x^\dagger\| \leq
    \frac{\delta + \alpha \|w\|}{2 \sqrt{\alpha (1 - q)}}.

With :math:`\alpha = \delta / \|w\|` the rates are :math:`\delta` and
:math:`\sqrt\delta`. With :math:`\alpha = \delta^2`, which goes to zero
too fast, the bounds do not converge to zero. The constant :math:`q` is
certified here, and so are the bounds. This page measures the distances
and errors that they bound.

Nothing is downloaded. From a clone of the repository,
``python gallery/ideas/equilibrium_regularisation.py`` runs this page in less
than two minutes on two cores.
"""

import math

import deepinv as dinv
import matplotlib.pyplot as plt
import torch
from torch import Tensor
from tqdm import tqdm

import deepinv_equilibrium as deq

PIXELS = 32  # side of the image
LEVELS = 6  # noise levels, a factor of 4 apart
SEEDS = 3  # repetitions with other noise

device = "cuda" if torch.cuda.is_available() else "cpu"

# %%
# A blur and a contraction
# ------------------------
# The network is the bundled
# :class:`~deepinv_equilibrium.models.ConvexPotentialDenoiser`, scaled to
# the Lipschitz constant 0.9. It was trained to denoise. Its construction
# implies that :math:`G = I - N` is strongly monotone. Errors this small
# need double precision.

SIZE = (1, PIXELS, PIXELS)
kernel = dinv.physics.functional.gaussian_blur(sigma=(1.2, 1.2))
physics = dinv.physics.BlurFFT(SIZE, filter=kernel, device=device)
physics = physics.double()
solver = deq.Anderson(rtol=1e-7, max_iter=1000)
model = deq.models.EquilibriumRegularisation(
    deq.models.ConvexPotentialDenoiser(1, contraction=0.9),
    alpha=0.1,
    sigma_denoiser=0.1,
    DEQ=deq.Equilibrium(solver),
).to(device, torch.float64)
model.requires_grad_(False)
print(deq.certify(model, physics, SIZE))


def monotone(x: Tensor) -> Tensor:
    """Return G(x)."""
    return x - model.denoiser(x, model.sigma_denoiser)


# %%
# A true image with a source condition
# ------------------------------------
# A photo does not satisfy the source condition, but an image close to it
# does. Choose :math:`w` with :math:`A^* w \approx G(\text{photo})` and
# solve :math:`x^\dagger = N(x^\dagger) + A^* w` by iterating it.

photos = deq.datasets.Photos("test", grey=True, img_size=4 * PIXELS)
photo = photos[2]["x"][None].to(device, torch.float64)
photo = torch.nn.functional.avg_pool2d(photo, 4)
# (I + 100 A* A)^-1 G(photo), so that A* w is close to G(photo).
zero = torch.zeros_like(photo)
smoothed = physics.prox_l2(monotone(photo), zero, 100.0)
w = 100 * physics.A(smoothed)
w_norm = float(w.norm())


def next_image(x: Tensor) -> Tensor:
    """Return the right-hand side of the equation of the true image."""
    return x - monotone(x) + physics.A_adjoint(w)


with torch.no_grad():
    truth = deq.fixed_point(next_image, photo, solver).x
gap = (monotone(truth) - physics.A_adjoint(w)).norm()
gap = gap / monotone(truth).norm()
print(f"||w|| {w_norm:.3g}, ||x|| {truth.norm():.3g}")
print(f"relative error of the source condition {gap:.1e}")

# %%
# Decreasing noise
# ----------------
# Two kinds of noise with the same norm :math:`\delta` are compared: white
# noise, and the worst noise for a linear problem, whose energy lies where
# the eigenvalues of :math:`A^* A` are close to :math:`\alpha`. Two choices
# of :math:`\alpha` are compared.

parameter_choice = deq.certificates.parameter_choice
choices = {
    "delta / ||w||": lambda d: parameter_choice(d, w_norm),
    "delta^2": lambda d: d**2,
}
size = float(truth.norm())
deltas = [size / 10 / 4**k for k in range(LEVELS)]
eigenvalues = physics.mask.abs().square()


def noise(kind: str, delta: float, alpha: float) -> Tensor:
    """Return a batch of noise of norm delta, one sample for each seed."""
    draws = []
    for seed in range(SEEDS):
        rng = torch.Generator().manual_seed(seed)
        draws.append(torch.randn(SIZE, generator=rng).to(truth))
    e = torch.stack(draws)
    if kind == "worst":
        ratio = (eigenvalues / alpha).clamp(min=1e-30)
        distance = ratio.log().abs()
        near = distance <= distance.flatten().kthvalue(20).values
        e = physics.U(physics.U_adjoint(e) * near)
    norms = e.flatten(1).norm(dim=1)
    return delta * e / norms.reshape(-1, 1, 1, 1)


def solve(e: Tensor, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return images, their distances and their errors."""
    model.alpha = alpha
    with torch.no_grad():
        x = model(physics.A(truth) + e, physics)
        d = x - truth
        product = (monotone(x) - monotone(truth)) * d
    distance = product.flatten(1).sum(1)
    return x, distance.cpu(), d.flatten(1).norm(dim=1).cpu()


runs = [(c, k) for c in choices for k in ("white", "worst")]
shape = (len(runs), SEEDS, LEVELS)
distances, errors = torch.zeros(shape), torch.zeros(shape)
bounds = torch.zeros(len(runs), LEVELS)
error_bounds, shown = torch.zeros_like(bounds), {}
for i, (choice, kind) in enumerate(tqdm(runs, desc="noise to zero")):
    for k, delta in enumerate(deltas):
        alpha = choices[choice](delta)
        e = noise(kind, delta, alpha)
        x, distances[i, :, k], errors[i, :, k] = solve(e, alpha)
        shown[choice, kind, k] = x[:1]
        bound = deq.certificates.source_condition_distance
        bounds[i, k] = bound(delta, w_norm, model.alpha).value
        bound = model.error_bound(delta, w_norm, SIZE)
        error_bounds[i, k] = bound.value
assert bool((distances <= bounds[:, None]).all())
assert bool((errors <= error_bounds[:, None]).all())

# %%
# The observed rates
# ------------------
# No distance and no error exceeds its bound. The rate is the slope between
# the last two noise levels on logarithmic axes.


def slope(values: Tensor) -> Tensor:
    """Return the rate at the smallest noise, one for each seed."""
    return (values[:, -2] / values[:, -1]).log() / math.log(4)


print(f"{SEEDS} seeds")
print(f"delta from {deltas[0]:.2g} to {deltas[-1]:.2g}")
print("alpha          noise  rate of distance  rate of error   last")
results: dict[str, dict[str, float]] = {}
for i, (choice, kind) in enumerate(runs):
    rate, error_rate = slope(distances[i]), slope(errors[i])
    last = distances[i, :, -1]
    print(
        f"{choice:13s}  {kind:5s}  {rate.mean():5.2f} +- "
        f"{rate.std():4.2f}     {error_rate.mean():5.2f} +- "
        f"{error_rate.std():4.2f}  {last.mean():.1e}"
    )
    results[f"{choice}, {kind}"] = {
        "rate": float(rate.mean()),
        "last distance": float(last.mean()),
    }
print(
    f"distance bound at the smallest noise: {bounds[0, -1]:.1e} for "
    f"{runs[0][0]}, {bounds[2, -1]:.2g} for {runs[2][0]}"
)

# %%
# With :math:`\alpha = \delta / \|w\|`, distance and error decrease at least
# at the theoretical rates 1 and 1/2. With :math:`\alpha = \delta^2` and the
# worst noise the distance stays at 1/4, like its bound, for all noise
# levels. With white noise the distance is smaller, because only a part of
# the noise lies at the harmful frequencies, but it hardly decreases either.
#
# Stability
# ---------
# The certificate bounds how far the image moves with the measurement. The
# worst noise moves it less: at this image the network is more monotone
# than the bound, which holds everywhere.

model.alpha = 0.01
certificate = deq.certify(model, physics, SIZE)
e, y = noise("worst", 1e-3 * size, 0.01), physics.A(truth)
with torch.no_grad():
    moved = model(y + e, physics) - model(y, physics)
gain = float(moved.flatten(1).norm(dim=1).max()) / (1e-3 * size)
print(f"stability {certificate.stability}; observed {gain:.3g}")
results["stability"] = {
    "certified": certificate.stability.value,
    "observed": gain,
}

# %%
# The figure shows distances and errors with their bounds, and the images of
# the two choices at the second smallest noise level.

figure = plt.figure(figsize=(11, 6.4), layout="constrained")
grid = figure.add_gridspec(2, 4, height_ratios=[3, 2])
colours = {"white": "#2a78d6", "worst": "#c8553d"}
for column, (values, limits, label) in enumerate(
    [
        (
            distances,
            bounds,
            r"$\langle G(x) - G(x^\dagger), x - x^\dagger \rangle$",
        ),
        (errors, error_bounds, r"$\Vert x - x^\dagger \Vert$"),
    ]
):
    axes = figure.add_subplot(grid[0, 2 * column : 2 * column + 2])
    for i, (choice, kind) in enumerate(runs):
        style = "-" if i < 2 else "--"
        mean, spread = values[i].mean(0), values[i].std(0)
        axes.errorbar(
            deltas,
            mean,
            spread,
            color=colours[kind],
            linestyle=style,
            marker="o",
            markersize=4,
            label=rf"$\alpha$ = {choice}, {kind} noise",
        )
        if kind == "white":
            axes.plot(
                deltas,
                limits[i],
                color="#52514e",
                linestyle=style,
                linewidth=1,
                label=rf"certified bound, $\alpha$ = {choice}",
            )
    axes.set(xscale="log", yscale="log", xlabel=r"noise $\delta$")
    axes.set_title(label, loc="left")
    axes.grid(visible=True, color="#e1e0d9", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    if column == 0:
        axes.legend(frameon=False, fontsize=8)
k = LEVELS - 2
first, second = choices
panels = {
    "true image": truth,
    "measurement": y + noise("white", deltas[k], 1.0)[:1],
    r"$\alpha = \delta / \Vert w \Vert$": shown[first, "white", k],
    r"$\alpha = \delta^2$": shown[second, "white", k],
}
for column, (title, image) in enumerate(panels.items()):
    axes = figure.add_subplot(grid[1, column])
    axes.imshow(image[0, 0].cpu().numpy(), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, fontsize=10)
    axes.axis("off")
figure.savefig("equilibrium_regularisation.png", dpi=110)
