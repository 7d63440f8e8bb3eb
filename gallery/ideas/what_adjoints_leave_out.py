r"""
What each adjoint leaves out
============================

The gradient of a loss :math:`\ell(x^\star)` with respect to the parameters
:math:`\theta` of a step :math:`f` is

.. math::

    g = \Bigl(\frac{\partial f}{\partial\theta}\Bigr)^{\!\top} v, \qquad
    v = (I - J^\top)^{-1}\, \nabla \ell(x^\star)
      = \sum_{p=0}^{\infty} (J^\top)^p\, \nabla \ell(x^\star), \qquad
    J = \frac{\partial f}{\partial x}(x^\star).

Each adjoint of this package replaces :math:`v` by something cheaper. Here
the Jacobian is a matrix of 400 × 400 numbers, so that the exact gradient is
known. The page shows what :math:`v` looks like, and measures the error of
each adjoint while the step contracts less and less.

Nothing is downloaded, and the page runs in less than half a minute on one
core. :doc:`/user_guide/adjoints` tells which adjoint to use.
"""

import math

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import LogNorm
from torch import Tensor
from tqdm import tqdm

import deepinv_equilibrium as deq

SIZE = 20  # of the photo
KAPPAS = (3.0, 1.0, 0.3, 0.1, 0.01)  # weights of the ridge, from strong to weak
DRAWS = 2000  # of random problems with one parameter

double = {"dtype": torch.float64}
generator = torch.Generator().manual_seed(0)

# %%
# A problem with a known Jacobian
# -------------------------------
# 70 % of the pixels of a photo are missing. Gradient descent fills them in by
# the minimiser of
#
# .. math::
#
#     \tfrac12 \|M x - y\|^2 + \tfrac{\kappa}{2} \|x - \tfrac12\|^2
#     + \sum_i e^{\theta_i} \bigl(\psi((D_1 x)_i) + \psi((D_2 x)_i)\bigr),
#
# where :math:`D_1, D_2` are differences of neighbours and :math:`\psi` is a
# smooth absolute value. The parameters :math:`\theta` are a weight for each
# pixel. The loss is :math:`\tfrac12 \|x^\star - \bar x\|^2`.

photos = deq.datasets.Photos("test", grey=True, img_size=SIZE)
truth = photos[4]["x"][None].double()
mask = (torch.rand(truth.shape, generator=generator, **double) < 0.3).double()
noise = torch.randn(truth.shape, generator=generator, **double)
measured = mask * (truth + 0.1 * noise)
WEIGHT = -1.0  # initial value of every parameter
KNEE = 0.1  # of the smooth absolute value


def regulariser_gradient(x: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the weighted sum of smooth absolute values."""
    total = torch.zeros_like(x)
    for dim in (2, 3):
        slope = torch.diff(x, dim=dim) / KNEE
        force = weight.narrow(dim, 0, SIZE - 1) * slope / (1 + slope**2).sqrt()
        edge = torch.zeros_like(x.narrow(dim, 0, 1))
        total = total - torch.diff(torch.cat([edge, force, edge], dim), dim=dim)
    return KNEE * total


class Descent:
    """A step of gradient descent with a ridge of weight kappa."""

    def __init__(self, kappa: float, theta: Tensor) -> None:
        self.kappa, self.theta = kappa, theta
        # The Hessian of the energy is at most 1 + kappa + 8 exp(theta).
        self.stepsize = 1.5 / (1 + kappa + 8 * math.exp(WEIGHT))

    def __call__(self, x: Tensor) -> Tensor:
        """Return the next image."""
        gradient = mask * (x - measured) + self.kappa * (x - 0.5)
        gradient = gradient + regulariser_gradient(x, self.theta.exp())
        return x - self.stepsize * gradient

    def block(self, x: Tensor) -> Tensor:
        """Apply ten steps, the block of ReTune(10, 10)."""
        for _ in range(10):
            x = self(x)
        return x


# %%
# What the exact adjoint looks like
# ---------------------------------
# Let the loss be the value of a single missing pixel. Then :math:`v` tells
# how much a small force at any other pixel moves this one. Since the pixel
# hears of the measurement only through its neighbours, :math:`v` is spread
# over all of them. The picture shows the partial sums of the Neumann series
# for the weakest ridge, and the exact :math:`v`.

weak = Descent(KAPPAS[-1], torch.full_like(truth, WEIGHT))
start = torch.full_like(truth, 0.5)
accurate = deq.Anderson(max_iter=3000, rtol=1e-10)
with torch.no_grad():
    filled = deq.fixed_point(weak, start, accurate).x


def jacobian_of(step: Descent, x: Tensor) -> Tensor:
    """Return the Jacobian of a step at an image as a matrix."""
    matrix = torch.autograd.functional.jacobian(step, x, vectorize=True)
    return matrix.reshape(x.numel(), x.numel())


jacobian = jacobian_of(weak, filled)
eye = torch.eye(len(jacobian), **double)
missing = (mask.flatten() == 0).nonzero().flatten()
centre = (SIZE - 1) / 2
distances = (missing // SIZE - centre) ** 2 + (missing % SIZE - centre) ** 2
pixel = int(missing[distances.argmin()])
orders = (0, 4, 20, 100)
sums, term, total = {}, eye[pixel], torch.zeros_like(eye[pixel])
for order in range(max(orders) + 1):
    total = total + term
    term = jacobian.T @ term
    if order in orders:
        sums[order] = total
exact_v = torch.linalg.solve(eye - jacobian.T, eye[pixel])
for order, value in sums.items():
    error = float((value - exact_v).norm() / exact_v.norm())
    share = float(value.sum() / exact_v.sum())
    print(f"order {order:3d}: relative error {error:.2f}, {share:4.0%} of the sum")

figure, panels = plt.subplots(1, 5, figsize=(9, 2.1), layout="constrained")
names = {order: f"$P = {order}$" for order in orders}
pictures = {names[order]: value for order, value in sums.items()}
pictures["exact"] = exact_v
scale = LogNorm(1e-3 * float(exact_v.max()), float(exact_v.max()))
observed = mask[0, 0].nonzero().flip(1).T.numpy()
for axes, (name, value) in zip(panels, pictures.items(), strict=True):
    picture = value.reshape(SIZE, SIZE).clamp(min=1e-12).numpy()
    shown = axes.imshow(picture, cmap="Blues", norm=scale)
    axes.plot(*observed, ".", color="#D55E00", markersize=2)
    axes.set(title=name, xticks=[], yticks=[])
figure.colorbar(shown, ax=panels, label="$v$", aspect=12)
figure.savefig("adjoints_neumann.png", dpi=110)

# %%
# Dots are observed pixels. ``JacobianFree()`` keeps the first term,
# :math:`P = 0`: only the pixel itself. ``JacobianFree(steps=5)`` and
# ``Neumann(order=4)`` keep five terms, which reach as many pixels far.
# What is left out is the influence of everything farther away.
#
# All adjoints, from fast to slow contraction
# -------------------------------------------
# A strong ridge makes the step contract fast, with a norm of :math:`J` far
# below 1, and a weak one makes it contract slowly. For each ridge we compare
# the gradient of every adjoint with the exact one. Solvers find the fixed
# point to a relative residual of 1e-10, except for the two adjoints that
# differentiate the iteration itself: ``Unrolled`` records 50 steps from the
# start, and ReTune with 10 layers and 10 restarts records the last 10 of 100.

unrolled = deq.Picard(max_iter=50, rtol=0.0)
restarted = deq.Picard(max_iter=10, rtol=0.0)
broyden = deq.Broyden(max_iter=3000, rtol=1e-10)
# name: solver, adjoint, recorded steps, colour, marker
adjoints = {
    "Implicit()": (accurate, deq.Implicit(), 1, "black", "*"),
    "JacobianFree()": (accurate, deq.JacobianFree(), 1, "#D55E00", "o"),
    "JacobianFree(5)": (accurate, deq.JacobianFree(steps=5), 5, "#E69F00", "s"),
    "Neumann(20)": (accurate, deq.Neumann(order=20), 1, "#0072B2", "^"),
    "SHINE()": (broyden, deq.SHINE(), 1, "#CC79A7", "v"),
    "SHINE(refine=5)": (broyden, deq.SHINE(refine=5), 1, "#882255", "D"),
    "Unrolled(), 50": (unrolled, deq.Unrolled(), 50, "#56B4E9", "P"),
    "ReTune(10, 10)": (restarted, deq.JacobianFree(), 10, "#009E73", "X"),
}


def loss(x: Tensor) -> Tensor:
    """Return half the squared error of an image."""
    return 0.5 * (x - truth).square().sum()


rates: list[float] = []
exact: list[Tensor] = []
gradients: dict[str, list[Tensor]] = {name: [] for name in adjoints}
products: dict[str, int] = {}
fallbacks = 0
for kappa in tqdm(KAPPAS, desc="ridges"):
    theta = torch.full_like(truth, WEIGHT).requires_grad_()
    step = Descent(kappa, theta)
    with torch.no_grad():
        fixed = deq.fixed_point(step, start, accurate).x
    jacobian = jacobian_of(step, fixed)
    rates.append(float(torch.linalg.matrix_norm(jacobian, 2)))
    cotangent = (fixed - truth).flatten()
    v = torch.linalg.solve(eye - jacobian.T, cotangent).reshape(fixed.shape)
    exact.append(torch.autograd.grad(step(fixed), theta, v)[0])
    for name, (solver, adjoint, recorded, *_) in adjoints.items():
        f = step.block if name.startswith("ReTune") else step
        solution = deq.fixed_point(f, start, solver, adjoint)
        gradient = torch.autograd.grad(loss(solution.x), theta)[0]
        gradients[name].append(gradient)
        backward = solution.backward
        solves = 0 if backward is None else int(backward.evaluations[0])
        products[name] = recorded - 1 + solves
        # SHINE checks its estimate by one product, and a fallback by another one.
        fallbacks += name == "SHINE()" and solves == 2


def relative_error(gradient: Tensor, reference: Tensor) -> float:
    """Return the distance of a gradient from the exact one."""
    return float((gradient - reference).norm() / reference.norm())


def angle(gradient: Tensor, reference: Tensor) -> float:
    """Return the angle between a gradient and the exact one in degrees."""
    unit, other = gradient / gradient.norm(), reference / reference.norm()
    return math.degrees(2 * math.asin(min(1.0, float((unit - other).norm()) / 2)))


print(f"norm of J = {rates[-1]:.3f}")
print("adjoint          error  angle  products  recorded steps")
for name, values in gradients.items():
    error = relative_error(values[-1], exact[-1])
    degrees = angle(values[-1], exact[-1])
    print(
        f"{name:16s} {error:5.3f}  {degrees:4.1f}°  {products[name]:<8d}  "
        f"{adjoints[name][2]}"
    )
print(f"SHINE() falls back to JacobianFree() for {fallbacks} of {len(KAPPAS)} ridges")

# %%
# *Products* are those with :math:`J^\top` in the backward pass, and *recorded
# steps* determine the memory. The table is for the weakest ridge, the last
# point of each curve below.

figure, panels = plt.subplots(1, 2, figsize=(9, 4.4), layout="constrained")
gaps = [1 - rate for rate in rates]
for name, (*_, colour, marker) in adjoints.items():
    style = {"color": colour, "marker": marker, "label": name}
    pairs = list(zip(gradients[name], exact, strict=True))
    panels[0].loglog(gaps, [relative_error(*pair) for pair in pairs], **style)
    panels[1].semilogx(gaps, [angle(*pair) for pair in pairs], **style)
panels[0].set(ylim=(1e-4, 2), ylabel="relative error")
panels[1].set(ylabel="angle in degrees")
for axes in panels:
    axes.invert_xaxis()
    axes.set_xticks(gaps, [f"{rate:.2f}" for rate in rates])
    axes.minorticks_off()
    axes.set_xlabel(r"$\|J\|$, slower contraction to the right")
figure.legend(
    *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4
)
figure.savefig("adjoints_errors.png", dpi=110)

# %%
# - The error of ``JacobianFree()`` approaches 1: the gradient is far too short.
#   Its angle stays below 40°, so that a small step along it still reduces this
#   loss.
# - More terms help as long as :math:`\|J\|^{P+1}` is small. For the weakest
#   ridge ``Neumann(20)`` needs about as many products as ``Implicit()`` and has
#   an error a hundred times larger: GMRES minimises the residual over all
#   polynomials in :math:`J^\top` of its degree, and the Neumann sum is one of
#   them.
# - ``SHINE()`` reuses what Broyden's method has learned about the Jacobian in
#   the directions of the iterates. The gradient of the loss has other
#   directions. For three of the five ridges the residual of its estimate is
#   larger than that of :math:`v = 0`, and it falls back to ``JacobianFree()``. Five
#   iterations of refinement help much.
# - ``Unrolled()`` is exact for its 50 steps, which do not end at the fixed point
#   if the contraction is slow.
# - ReTune is ``JacobianFree(steps=10)`` after 100 steps, here close to the fixed
#   point.
#
# One parameter
# -------------
# If only one number is learned, the angle is 0° or 180°. Let all weights be one
# common number. Its gradient is the sum of the gradients above.

print("norm of J  exact    JacobianFree()      JacobianFree(5)")
signs = {}
for k, rate in enumerate(rates):
    scalars = [
        float(values[k].sum())
        for values in (exact, gradients["JacobianFree()"], gradients["JacobianFree(5)"])
    ]
    signs[rate] = scalars
    cells = "".join(
        f"   {value:+.3f} {'wrong sign' if value * scalars[0] < 0 else '':10s}"
        for value in scalars[1:]
    )
    print(f"{rate:.3f}      {scalars[0]:+.3f}{cells}".rstrip())

# %%
# The approximate gradients have the wrong sign for some of the ridges, although
# the angles above are below 40°. A training that follows them moves the weight
# away from the optimum.
#
# How often does that happen? We draw random problems with one parameter, in 50
# dimensions: a Jacobian, a derivative of the step and a derivative of the loss.
# The Jacobian is either an orthogonal matrix times the rate, or symmetric with
# eigenvalues between 0 and the rate.

frequencies: dict[tuple[str, float], float] = {}
print("wrong sign of JacobianFree(), one parameter, random problems")
for kind in ("orthogonal", "symmetric"):
    for rate in (0.5, 0.9, 0.99):
        basis = torch.linalg.qr(torch.randn(50, 50, generator=generator, **double))[0]
        if kind == "orthogonal":
            random_jacobian = rate * basis
        else:
            eigenvalues = torch.linspace(0, rate, 50, **double)
            random_jacobian = basis * eigenvalues @ basis.T
        b, derivative = torch.randn(2, DRAWS, 50, generator=generator, **double)
        solved = torch.linalg.solve(torch.eye(50, **double) - random_jacobian.T, b.T).T
        exact_sign = (solved * derivative).sum(dim=1)
        free_sign = (b * derivative).sum(dim=1)
        frequency = float((exact_sign * free_sign < 0).double().mean())
        frequencies[kind, rate] = frequency
        print(f"{kind:10s} rate {rate:4g}: {frequency:.0%}")

# %%
# The descent property of Jacobian-free backpropagation
# :footcite:p:`fung2022jfb` assumes that the derivative of the step in
# :math:`\theta` has full row rank, with a bounded condition number. With fewer
# parameters than pixels it does not. For few parameters use ``Implicit()``, whose
# error is reported in ``solution.backward`` and controlled by its tolerance.
# :doc:`/user_guide/certificates` has bounds of the error that need no exact
# gradient.
