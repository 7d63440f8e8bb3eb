r"""
Fixed points, and why a model diverges
======================================

An equilibrium model restores an image by a fixed point of its step,
:math:`x^\star = f(x^\star)`. The plain iteration :math:`x_{k+1} = f(x_k)`
need not reach it. It may converge, circle, or run away, and it may converge
to a point that depends on the start.

This page shows each case in the plane, where iterates can be drawn, and then
for a model that deblurs a photo. For each case it prints the report of the
solver and names the remedy. Nothing is downloaded, and the page runs in less
than half a minute on one core.
"""

import math

import deepinv as dinv
import matplotlib.pyplot as plt
import torch
from torch import Tensor

import deepinv_equilibrium as deq

SIZE = 64  # of the photo
MAX_ITER = 200  # of a solver
STARTS = 6  # along an axis, where there are several fixed points

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"

# %%
# Contraction, rotation, expansion
# --------------------------------
# Near a fixed point a smooth step behaves like its Jacobian :math:`J`. The
# error of the plain iteration is multiplied by :math:`J` in every step. We
# take four linear steps :math:`f(x) = J x` in the plane, whose fixed point is
# the origin:
#
# - **contraction**: :math:`J` turns by 30° and shrinks by 0.85,
# - **rotation**: :math:`J` turns by 60° and keeps the norm,
# - **overshoot**: :math:`J` has an eigenvalue -1.2. A gradient step that is
#   too long does this.
# - **repulsion**: :math:`J` has an eigenvalue 1.2. A network that amplifies
#   some detail of the image does this.


def turn(degrees: float) -> Tensor:
    """Return a rotation of the plane."""
    angle = torch.tensor(math.radians(degrees), dtype=torch.float64)
    c, s = angle.cos(), angle.sin()
    return torch.stack([torch.stack([c, -s]), torch.stack([s, c])])


steps = {
    "contraction": 0.85 * turn(30),
    "rotation": turn(60),
    "overshoot": torch.diag(torch.tensor([0.5, -1.2]).double()),
    "repulsion": torch.diag(torch.tensor([0.5, 1.2]).double()),
}
jacobians = torch.stack(list(steps.values()))
start = torch.tensor([[1.0, 0.5]]).double().expand(len(steps), 2)

# %%
# Three solvers try all four steps, as four samples of one batch. *Picard* is
# the plain iteration. With ``relaxation`` :math:`= \omega`, it iterates
# :math:`(1 - \omega) x + \omega f(x)`, which has the same fixed points.
# *Anderson* combines the last values of the step.

solvers = {
    "Picard": deq.Picard(max_iter=MAX_ITER),
    "relaxed": deq.Picard(relaxation=0.5, max_iter=MAX_ITER),
    "Anderson": deq.Anderson(max_iter=MAX_ITER),
}
paths, reports = {}, {}
for name, solver in solvers.items():
    path = []

    def linear_step(x: Tensor, path: list[Tensor] = path) -> Tensor:
        """Apply every Jacobian to its sample, and keep the iterate."""
        path.append(x.detach())
        return torch.einsum("bij,bj->bi", jacobians, x)

    solution = deq.fixed_point(linear_step, start, solver, on_failure="ignore")
    paths[name], reports[name] = torch.stack(path), solution

print(f"{'step':12s}" + "".join(f"{name:>18s}" for name in solvers))
for k, name in enumerate(steps):
    cells = [
        f"{report.status[k].name} {int(report.iterations[k])}"
        for report in reports.values()
    ]
    print(f"{name:12s}" + "".join(f"{cell:>18s}" for cell in cells))

# %%
# The number is that of the iterations. The eigenvalues :math:`\mu` of
# :math:`J` explain the table:
#
# - Picard converges if all :math:`|\mu| < 1`. A rotation never comes closer,
#   and ends as ``MAX_ITER``. Both expansions end as ``DIVERGED``, long before
#   the largest number of iterations.
# - Relaxation replaces :math:`\mu` by :math:`1 - \omega + \omega \mu`. This
#   brings the rotation and the overshoot into the unit disc. It cannot help
#   against a real :math:`\mu > 1`: then :math:`1 - \omega + \omega \mu > 1`
#   for every :math:`\omega > 0`.
# - For a linear step, Anderson needs only that 1 is no eigenvalue. In two
#   dimensions it finds the fixed point in four iterations, also the one that
#   repels the plain iteration.

relaxed = {
    name: torch.linalg.eigvals(0.5 * torch.eye(2) + 0.5 * jacobian).abs().max()
    for name, jacobian in steps.items()
}
print("spectral radius of J and of the relaxed step")
for name, jacobian in steps.items():
    radius = torch.linalg.eigvals(jacobian).abs().max()
    print(f"{name:12s}{radius:8.3f}{relaxed[name]:8.3f}")

styles = {
    "Picard": {"color": BLUE, "marker": "o", "linestyle": "-"},
    "relaxed": {"color": ORANGE, "marker": "s", "linestyle": "--"},
    "Anderson": {"color": GREEN, "marker": "^", "linestyle": ":"},
}
figure, panels = plt.subplots(2, 2, figsize=(7, 7), layout="constrained")
for k, (axes, step_name) in enumerate(zip(panels.flat, steps, strict=True)):
    for name, path in paths.items():
        # A sample that has stopped is not evaluated at new points.
        points = path[: int(reports[name].evaluations[k]), k]
        outside = (points.abs() > 1.3).any(dim=1).nonzero()
        if len(outside):  # draw to the first iterate that leaves the panel
            points = points[: int(outside[0]) + 1]
        axes.plot(*points.T, **styles[name], markersize=4, label=name)
    axes.plot(0, 0, "k*", markersize=14, label="fixed point")
    axes.set(title=step_name, xlim=(-1.3, 1.3), ylim=(-1.3, 1.3))
    axes.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
panels[0, 0].legend(loc="lower right", fontsize=9)
figure.savefig("fixed_points_plane.png", dpi=110)

# %%
# The report says what happened, and what to do. It advises relaxation for
# both expansions, because the residuals do not show the sign of the
# eigenvalue.

print(reports["Picard"])

# %%
# Several fixed points
# --------------------
# A step that does not contract may have several fixed points. The step
# :math:`f(x)_i = \tanh(1.5 x_i)` has nine in the plane: each coordinate is 0
# or ±0.858. The slope is 1.5 at 0 and 0.4 at ±0.858, so that only the four
# corners attract.


def tanh_step(x: Tensor) -> Tensor:
    """Pull each coordinate to -0.858 or 0.858."""
    return (1.5 * x).tanh()


ticks = torch.linspace(-1.1, 1.2, STARTS).double()
starts = torch.cartesian_prod(ticks, ticks)
limits = {}
for name in ("Picard", "Anderson"):
    several = deq.fixed_point(tanh_step, starts, solvers[name], on_failure="ignore")
    limits[name] = (several.x / 0.858).round().long()
    attracting = limits[name].abs().sum(dim=1) == 2
    print(
        f"{name:9s} {int(several.converged.sum())} of {len(starts)} CONVERGED, "
        f"to {len(limits[name].unique(dim=0))} different points, "
        f"{int(attracting.sum())} to one that attracts"
    )

# %%
# All samples are ``CONVERGED``: the status says that the residual is small. It
# does not say that the fixed point is the only one. An accelerated solver may
# also reach a point that repels the plain iteration.

CORNERS = {(-1, -1): BLUE, (-1, 1): ORANGE, (1, -1): GREEN, (1, 1): "#CC79A7"}
MARKERS = {(-1, -1): "o", (-1, 1): "s", (1, -1): "^", (1, 1): "D"}
figure, panels = plt.subplots(1, 2, figsize=(8, 4.6), sharey=True, layout="constrained")
for axes, (name, cells) in zip(panels, limits.items(), strict=True):
    for point, cell in zip(starts, cells, strict=True):
        key = (int(cell[0]), int(cell[1]))
        colour, marker = CORNERS.get(key, "black"), MARKERS.get(key, "x")
        axes.plot(*point, color=colour, marker=marker, markersize=7)
        end = 0.858 * cell.double()
        axes.plot(*torch.stack([point, end]).T, color=colour, alpha=0.35)
    grid = torch.cartesian_prod(*[torch.tensor([-0.858, 0.0, 0.858])] * 2)
    axes.plot(*grid.T, "k*", markersize=12)
    axes.set(title=f"{name}: start and limit", xlabel="$x_1$", aspect="equal")
panels[0].set_ylabel("$x_2$")
figure.savefig("fixed_points_several.png", dpi=110)

# %%
# Stars are the nine fixed points. Colour and shape of a start tell the corner
# that it reaches, and a black cross marks a limit that is no corner.
# :func:`check_well_posed <deepinv_equilibrium.check_well_posed>` makes this
# experiment for a model, from several starts. A contraction has exactly one
# fixed point; whether a model contracts is proved by
# :func:`certify <deepinv_equilibrium.certify>`.
#
# A model that deblurs
# --------------------
# The same happens in 4096 dimensions. Proximal gradient descent with a
# denoiser, :math:`f(x) = \operatorname{D}(x - \tau A^\top (A x - y))`, deblurs
# a photo. The gradient step has the eigenvalues :math:`1 - \tau s`, where
# :math:`s` are those of :math:`A^\top A`, here between 0 and 1. For
# :math:`\tau = 3` the image overshoots where :math:`s = 1`.

photo = deq.datasets.Photos("test", grey=True, img_size=SIZE)[2]["x"][None]
noise = dinv.physics.GaussianNoise(0.02, rng=torch.Generator().manual_seed(0))
gaussian = dinv.physics.functional.gaussian_blur(sigma=(1.2, 1.2))
physics = dinv.physics.BlurFFT(
    tuple(photo.shape[1:]), filter=gaussian, noise_model=noise
)
measured = physics(photo)
psnr = dinv.metric.PSNR()
images, histories = {}, {}
print("step size  solver    status     iterations  PSNR in dB")
for tau in (1.0, 3.0):
    for name, solver in solvers.items():
        model = deq.optim.PGD(
            data_fidelity=dinv.optim.L2(),
            prior=dinv.optim.PnP(deq.models.SmallDRUNet(1)),
            stepsize=tau,
            sigma_denoiser=0.03,
            trainable_params=[],
            DEQ=deq.Equilibrium(solver, on_failure="ignore"),
        )
        with torch.no_grad():
            images[tau, name] = model(measured, physics)
        report = model.solution
        histories[tau, name] = report
        value = psnr(images[tau, name], photo).item()
        print(
            f"{tau:<11g}{name:10s}{report.status[0].name:11s}"
            f"{int(report.iterations[0]):<12d}{value:.2f}"
        )

# %%
# With :math:`\tau = 3` the plain iteration diverges. There are three remedies:
#
# - a smaller step size. Here :math:`\tau < 2` suffices for the gradient step,
#   and ``stepsize="auto"`` chooses it by the spectrum of the operator;
# - relaxation, because the eigenvalue is below -1;
# - Anderson acceleration, which is also the fastest for both step sizes.
#
# The last two find the fixed point of the long step. It is another image than
# that of the short step, since the step size weighs data against denoiser.

figure = plt.figure(figsize=(8, 6), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=(1.4, 1))
panels = top.subplots(1, 2, sharey=True)
for axes, tau in zip(panels, (1.0, 3.0), strict=True):
    for name in solvers:
        residuals = histories[tau, name].history[:, 0]
        style = {**styles[name], "markersize": 3}
        axes.semilogy(range(1, len(residuals) + 1), residuals, **style, label=name)
    axes.axhline(1e-4, color="grey", linewidth=1)
    axes.set(title=rf"step size $\tau = {tau:g}$", xlabel="iteration")
panels[0].set_ylabel("relative residual")
panels[0].legend(fontsize=9)
shown = {
    "blurred": measured,
    r"$\tau=1$, Picard": images[1.0, "Picard"],
    r"$\tau=3$, Picard": images[3.0, "Picard"],
    r"$\tau=3$, Anderson": images[3.0, "Anderson"],
}
for axes, (title, image) in zip(bottom.subplots(1, 4), shown.items(), strict=True):
    axes.imshow(image[0, 0].numpy(), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()
figure.savefig("fixed_points_deblurring.png", dpi=110)

# %%
# The grey line is the tolerance. :doc:`/user_guide/report` lists every status
# with its remedy, and :doc:`/user_guide/solvers` compares the solvers.
