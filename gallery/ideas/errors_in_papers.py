r"""
Errors in papers, each with a counterexample
============================================

This package implements methods of several papers. While we implemented them
and tested their formulas, we found statements that do not hold as they are
printed. Most are slips of one symbol, and the methods do not depend on them.
A certificate does: it must not repeat a wrong constant.

For each statement, this page says where it stands, computes a counterexample
in one dimension or a few, and tells what the package does. Every number is
computed when the page is built. Nothing is downloaded, and the page runs in a
few seconds.
"""

import math
from dataclasses import dataclass

import deepinv as dinv
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import rates
from deepinv_equilibrium.certificates.gradients import (
    jacobian_free_error,
    retune_squared_error,
)

RESTARTS = 5  # of the first counterexample
STEPS = 60  # of the iterations that diverge


@dataclass
class Finding:
    """A statement with the number that it gives, and the number that is true."""

    where: str
    quantity: str
    stated: float
    computed: float


findings: dict[str, Finding] = {}


def number(value: float) -> Tensor:
    """Return a scalar in float64 as a batch of one image of one pixel."""
    return torch.tensor([[value]], dtype=torch.float64)


# %%
# The error of ReTune's gradient
# ------------------------------
# Theorem 2 and Corollary 1 of :footcite:t:`davy2025restarted`, equations (33)
# and (42), bound the distance of ReTune's gradient from the exact one. The term
# with the Lipschitz constant :math:`L_\theta` of :math:`\partial_\theta \Phi` has
# the factor :math:`\delta^T`. The proof replaces the point :math:`x_{K(T-1)}`, at
# which the derivative is taken, by :math:`x_{KT}` before equation (40). The
# distance of :math:`x_{K(T-1)}` from the fixed point is bounded by
# :math:`\delta^{T-1} \|x_0 - \hat x\|` only, so that the exponent must be
# :math:`T - 1`.
#
# *Counterexample.* :math:`\Phi(x, \theta) = \theta x + 1` with
# :math:`\theta = \delta = 0.01`, :math:`x_0 = 0` and the loss
# :math:`\tfrac12 (x + 10)^2`. Here :math:`\partial_\theta \Phi = x`, so that
# :math:`L_\theta = 1` everywhere.

THETA, TARGET = 0.01, -10.0
limit = 1 / (1 - THETA)
exact = (limit - TARGET) * limit / (1 - THETA)
errors, stated, corrected = [], [], []
for restarts in range(1, RESTARTS + 1):
    theta = torch.tensor(THETA, dtype=torch.float64, requires_grad=True)
    solution = deq.fixed_point(
        lambda x, theta=theta: theta * x + 1,
        number(0.0),
        deq.Picard(max_iter=restarts, rtol=0.0),
        deq.JacobianFree(),
    )
    (0.5 * (solution.x - TARGET).square().sum()).backward()
    errors.append(abs(float(theta.grad) - exact))
    before = limit * (1 - THETA ** (restarts - 1))  # the iterate x_{T-1}
    free = jacobian_free_error(THETA, limit - TARGET, limit)
    stated.append(free + THETA**restarts * limit * (before + limit - TARGET))
    corrected.append(
        retune_squared_error(THETA, restarts, limit, limit - TARGET, limit, before, 1.0)
    )
    print(
        f"T = {restarts}: error {errors[-1]:.5f}, stated bound {stated[-1]:.5f}, "
        f"corrected bound {corrected[-1]:.5f}"
    )
findings["exponent"] = Finding("ReTune, (42)", "error", stated[0], errors[0])

# %%
# *What remains.* All terms but the first still vanish as :math:`T` grows, which is
# what the theorem is used for.
#
# *In the package.* :func:`retune_error
# <deepinv_equilibrium.certificates.gradients.retune_error>` and
# :func:`retune_squared_error
# <deepinv_equilibrium.certificates.gradients.retune_squared_error>` have the
# exponent :math:`T - 1`.

figure, axes = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
ticks = range(1, RESTARTS + 1)
axes.semilogy(ticks, errors, "o", color="#D55E00", markersize=9, label="error")
axes.semilogy(ticks, stated, "s--", color="#555555", label="stated bound, (42)")
axes.semilogy(ticks, corrected, "^-", color="#0072B2", label="corrected bound")
axes.set(xlabel="restarts $T$", ylabel="error of the gradient", xticks=list(ticks))
axes.legend()
figure.savefig("errors_retune.png", dpi=110)

# %%
# The step size of the wavelet model
# ----------------------------------
# The same paper, Section 4.1, *Validity of the assumptions*: with
# :math:`L = 1 / \min(\Lambda)` and :math:`\tau = 1.95 / L` the iteration (51)
# contracts. The weights of (51) are :math:`\theta = \lambda_j \sqrt{\Lambda_b}`, and
# the Hessian of its smooth part is :math:`\theta^{-2}`: the constant is
# :math:`L = 1 / \min(\theta)^2`, as the paper says below (51).
#
# *Counterexample.* One coefficient, :math:`\lambda = 0.1`, :math:`\Lambda = 1`.


def wavelet_iterates(lipschitz: float, weight: float = 0.1) -> list[float]:
    """Return distances of forward-backward iterates of (51) from the solution."""
    tau, data = 1.95 / lipschitz, 1.0
    solution = weight * max(abs(data) - weight, 0.0)
    u, distances = 0.0, []
    for _ in range(STEPS):
        v = u - tau * (u / weight - data) / weight
        u = math.copysign(max(abs(v) - tau, 0.0), v)
        distances.append(abs(u - solution))
    return distances


wavelet = {
    r"stated, $L = 1/\min(\Lambda)$": wavelet_iterates(1.0),
    r"$L = 1/\min(\theta)^2$": wavelet_iterates(1 / 0.1**2),
}
for distances in wavelet.values():
    print(f"distance from the solution after {STEPS} steps: {distances[-1]:.1e}")
factor = abs(1 - 1.95 * 1 / 0.1**2)
findings["step size"] = Finding("ReTune, 4.1", "factor of a step", 1.0, factor)

# %%
# *In the package.* :class:`WaveletReconstructor
# <deepinv_equilibrium.models.WaveletReconstructor>` uses
# :math:`\|A\|^2 / \min(\theta)^2`.
#
# Strong convexity of a deconvolution
# -----------------------------------
# The same paper, Section 4.2: for a blur with the kernel :math:`h`,
# :math:`\tfrac12 \|h \star x - y\|^2` is :math:`\tfrac{m_h}{2}`-strongly convex with
# :math:`m_h = \min_\xi |\hat h(\xi)|`. The Hessian has the eigenvalues
# :math:`|\hat h(\xi)|^2`, so that the constant is :math:`m_h^2`. This is smaller if
# :math:`m_h < \tfrac12`.
#
# *Counterexample.* The kernel (0.2, 0.6, 0.2) with :math:`m_h = 0.2`.

kernel = torch.tensor([0.2, 0.6, 0.2]).double()[None, None, None]
blur = dinv.physics.BlurFFT((1, 8, 8), filter=kernel)
images = torch.eye(64).double().reshape(64, 1, 8, 8)
columns = blur.A_adjoint(blur.A(images)).reshape(64, 64)
smallest = float(torch.linalg.eigvalsh(columns)[0])
spectrum = deq.spectrum(blur, (1, 8, 8))
print(f"stated {0.2 / 2:.3f}, smallest eigenvalue {smallest:.3f}")
print(f"deq.spectrum: {spectrum.lower}")
findings["strong convexity"] = Finding(
    "ReTune, 4.2", "curvature at least", 0.2 / 2, smallest
)

# %%
# *In the package.* :func:`spectrum <deepinv_equilibrium.spectrum>` has the extreme
# values of :math:`|\hat h|^2`.
#
# A factor of two in DE-GRAD
# --------------------------
# :footcite:t:`liu2024training` define the step by the gradient of
# :math:`\|A x - d\|^2`, without a factor :math:`\tfrac12`, in (3.5):
# :math:`T(x) = x - \eta (2 A^\top (A x - d) + S(x))`. Theorem 3.1 gives it the rate
# :math:`\gamma = 1 - \eta (1 + \mu) + \eta \epsilon` for :math:`\eta < 1 / (1 + L)`
# and an :math:`\epsilon`-Lipschitz :math:`S - I`, with the extreme eigenvalues
# :math:`\mu, L` of :math:`A^\top A`. These are the constants of
# :math:`A^\top (A x - d)` in :footcite:t:`gilton2021deep`, to which the theorem is
# attributed.
#
# *Counterexample.* One pixel, :math:`A = 1`, :math:`d = 1`, :math:`\eta = 0.49` and
# :math:`S(x) = 2.9\, x`, so that :math:`\epsilon = 1.9 < 1 + \mu`.

ETA, EPSILON = 0.49, 1.9
gamma = rates.de_grad(1.0, 1.0, ETA, EPSILON)


def de_grad_iterates(factor: float) -> list[float]:
    """Return the distances of successive iterates of DE-GRAD."""
    x, moves = 0.0, []
    for _ in range(STEPS):
        new = x - ETA * (factor * (x - 1) + (1 + EPSILON) * x)
        moves.append(abs(new - x))
        x = new
    return moves


de_grad = {
    r"stated, $2A^\top(Ax - d)$": de_grad_iterates(2.0),
    r"$A^\top(Ax - d)$": de_grad_iterates(1.0),
}
for name, moves in de_grad.items():
    print(f"gamma {gamma:.3f}, factor of a step {moves[1] / moves[0]:.3f}, {name}")
doubled = de_grad[r"stated, $2A^\top(Ax - d)$"]
findings["factor of two"] = Finding(
    "Liu et al., Thm 3.1", "factor of a step", gamma, doubled[1] / doubled[0]
)

# %%
# *In the package.* :class:`deepinv.optim.L2` is :math:`\tfrac12 \|A x - y\|^2`, and
# the preset ``de-grad`` and its certificate use :math:`A^\top (A x - y)`.
#
# Spectral normalisation of the network in DE-GRAD
# ------------------------------------------------
# The same paper, Section 5.1, normalises the layers of :math:`S` spectrally, to a
# constant below 1, so that :math:`T` contracts. This bounds :math:`S`. The theorem
# needs a bound of :math:`S - I` by :math:`\epsilon < 1 + \mu`.
#
# *Counterexample.* A missing pixel, :math:`A = 0`, and :math:`S(x) = -0.9\, x`, which
# is 0.9-Lipschitz. :math:`S - I` has the constant 1.9, and
# :math:`T(x) = (1 + 0.9\, \eta)\, x`.

GAIN = 0.9
expansion = 1 + ETA * GAIN
print(f"Lipschitz constant of S {GAIN}, factor of a step {expansion:.3f}")
findings["bound of S"] = Finding("Liu et al., 5.1", "factor of a step", 1.0, expansion)

# %%
# The spectral normalisation that the paper cites, which is that of ``torch``, divides
# the kernel of a convolution by the norm of a matrix, the reshaped kernel. The norm
# of the convolution may be larger, and then the layer is not bounded by the constant.
#
# *Counterexample.* A 3 × 3 kernel of ones.

layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
nn.init.ones_(layer.weight)
layer = spectral_norm(layer).eval()
weight = layer.weight.detach().double()
reshaped = float(torch.linalg.matrix_norm(weight.flatten(1), 2))
side = 24
pixels = torch.eye(side**2).double().reshape(-1, 1, side, side)
matrix = nn.functional.conv2d(pixels, weight, padding=1).flatten(1)
true_norm = float(torch.linalg.matrix_norm(matrix, 2))
certified = deq.lipschitz(layer.double())
print(
    f"norm of the reshaped kernel {reshaped:.3f}, of the convolution on {side} x "
    f"{side} pixels {true_norm:.3f}, certified {certified.value:.3f}"
)
findings["reshaped kernel"] = Finding(
    "Liu et al., 5.1", "norm of a layer", reshaped, true_norm
)

# %%
# *In the package.* :class:`BoundedDnCNN <deepinv_equilibrium.models.BoundedDnCNN>` with
# ``residual=False`` bounds :math:`I - S` by the norms of convolutions.
# :doc:`/auto_gallery/ideas/refuting_contraction` refutes two such constructions in
# trained networks.
#
# Gradient descent with a network
# -------------------------------
# Lecture slides on deep equilibrium models state: if :math:`f` is
# :math:`\mu`-strongly convex and :math:`L`-smooth, a network :math:`N` is
# :math:`L_N`-Lipschitz, and :math:`\tau < 2 / (L + L_N)`, then
# :math:`x - \tau (\nabla f(x) + N(x))` contracts. The triangle inequality gives the
# constant :math:`\max(|1 - \tau \mu|, |1 - \tau L|) + \tau L_N`, which also needs
# :math:`L_N < \mu`.
#
# *Counterexample.* :math:`f(x) = \tfrac12 x^2`, :math:`N(x) = -2 x` and
# :math:`\tau = 0.1`, far below :math:`2 / 3`.

TAU = 0.1
step_factor = abs(1 - TAU * (1 - 2.0))
bound = rates.gradient_descent(1.0, 1.0, TAU, 2.0)
print(f"factor of a step {step_factor:.3f}, bound of the package {bound:.3f}")
findings["network in GD"] = Finding(
    "slides, DEQ-GD", "factor of a step", 1.0, step_factor
)

# %%
# *In the package.* :func:`rates.gradient_descent
# <deepinv_equilibrium.certificates.rates.gradient_descent>` is not below 1 here, and
# :func:`certify <deepinv_equilibrium.certify>` does not call such a model a
# contraction.
#
# All counterexamples
# -------------------
# *Stated* is the number that the statement gives: an upper bound, and for the
# curvature a lower bound. Each one is violated.

print(f"{'statement':20s} {'quantity':24s} {'stated':>8s} {'computed':>9s}")
for finding in findings.values():
    print(
        f"{finding.where:20s} {finding.quantity:24s} {finding.stated:8.3f} "
        f"{finding.computed:9.3f}"
    )

figure, panels = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
iterations = range(1, STEPS + 1)
powers = {
    r"stated, $N(x) = -2x$": [step_factor**k for k in iterations],
    r"$N(x) = -x/2$": [abs(1 - TAU * (1 - 0.5)) ** k for k in iterations],
}
cases = {
    "step size, Section 4.1": wavelet,
    "DE-GRAD, (3.5)": de_grad,
    "descent with a network": powers,
}
for axes, (title, curves) in zip(panels, cases.items(), strict=True):
    pairs = zip(curves.items(), ("#D55E00", "#0072B2"), ("--", "-"), strict=True)
    for (label, values), colour, line in pairs:
        axes.semilogy(iterations, values, line, color=colour, label=label)
    axes.set(title=title, xlabel="iteration")
    axes.legend(fontsize=9)
panels[0].set_ylabel("distance")
figure.savefig("errors_divergence.png", dpi=110)

# %%
# The pictures show the iterations that are stated to contract, and those of the
# corrected condition. If you know of a further error, or of an error in this page,
# please tell us.
