"""Safeguarded solves, TV duality gaps, error bounds and scalar rates."""

from __future__ import annotations

import deepinv as dinv
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import rates
from deepinv_equilibrium.fixed_points import Status
from deepinv_equilibrium.optim.total_variation import duality_gap, solve_denoising

from ..optim.total_variation.dense_tv import dense_prox
from .dense import norm
from .draws import Draw, Generator, choose, generator
from .outcomes import VoidError, ask, require, require_at_most
from .random_models import MatrixDenoiser


def safeguarded_solves(draw: Draw) -> None:
    """Safeguarded never refutes a true rate, keeps its envelope, and needs no more
    evaluations than it certifies."""
    rng = generator(draw)
    n, batch = rng.randint(1, 5), rng.randint(1, 3)
    rate = choose(draw, (0.0, 0.3, 0.9, 0.99, 0.999))
    matrix = rng.orthogonal(n)
    if rng.random() < 0.7:
        matrix = rng.choice([1.0, -1.0]) * torch.eye(n, dtype=torch.float64)
    matrix = rate * (1 - 1e-15) * matrix
    dtype = rng.choice([torch.float64, torch.float64, torch.float32])
    center = rng.choice([0.0, 1.0, 1e3, 1e-8]) * rng.normal(batch, n).to(dtype)
    form = rng.choice(["shifted", "offset", "tanh"])
    # In float32 the rounded matrix may have a larger norm.
    matrix = (matrix if dtype == torch.float64 else matrix * (1 - 1e-6)).to(dtype)
    offset = center - center @ matrix.T

    def step(x: Tensor) -> Tensor:
        if form == "shifted":
            return (x - center) @ matrix.T + center
        if form == "tanh":
            return ((x - center) @ matrix.T).tanh() + center
        return x @ matrix.T + offset

    def useless(x: Tensor, value: Tensor) -> Tensor:
        return value * float("nan")

    def noisy(x: Tensor, value: Tensor) -> Tensor:
        return value + 0.1 * (value - x).norm() * rng.normal(*x.shape).to(x)

    def far(x: Tensor, value: Tensor) -> Tensor:
        return value + 1e6 * rng.normal(*x.shape).to(x)

    proposal = rng.choice([useless, noisy, far, deq.Anderson(), deq.Broyden()])
    x0 = rng.choice([1.0, 1e3, 1e-3]) * rng.normal(batch, n).to(dtype)
    rtol = rng.choice([1e-2, 1e-4]) if dtype == torch.float32 else 1e-6
    budget = deq.Safeguarded(proposal, rate, rtol=rtol).evaluations_to(rtol)
    budget = min(budget, 3000)
    solver = ask(deq.Safeguarded, proposal, rate, rtol=rtol, max_iter=budget)
    solution = ask(deq.fixed_point, step, x0, solver, on_failure="ignore")
    label = f"{form}, rate {rate}, {proposal}, {dtype}"
    require(
        all(status is not Status.REFUTED for status in solution.status),
        f"a true rate was refuted: {label}",
    )
    if dtype == torch.float64 and budget < 3000:
        # Near the fixed point rounding hides the residual.
        first = (step(x0) - x0).norm(dim=1)
        size = x0.norm(dim=1) + center.norm(dim=1) + 1e-30
        visible = first * rtol > 1e-12 * size
        for index, status in enumerate(solution.status):
            if visible[index]:
                require(
                    status is Status.CONVERGED,
                    f"{status} after the {budget} evaluations that suffice: {label}",
                )


def duality_gaps(draw: Draw) -> None:
    """The duality gap of total variation bounds the error of any image with any dual
    variable, and the solver's error bound that of its image."""
    rng = generator(draw)
    norm_name = choose(draw, ("isotropic", "componentwise"))
    shape = choose(draw, ((2, 1, 2, 3), (2, 1, 3, 2), (1, 1, 2, 2, 2)))
    v = rng.choice([0.1, 1.0, 10.0]) * rng.normal(*shape)
    weight = rng.normal(shape[0], 1, len(shape) - 2, *shape[2:]).abs() * rng.choice(
        [0.05, 0.3, 3.0]
    )
    weight = weight.where(weight > 0.02, 0)
    error = 2e-5
    try:
        exact = dense_prox(v, weight, norm_name, error)
    except AssertionError as failure:
        raise VoidError("the reference has not converged") from failure
    x = exact + rng.choice([0.0, 1e-6, 1e-2, 1.0]) * rng.normal(*shape)
    dual = rng.choice([1e-3, 0.1, 1.0, 10.0]) * rng.normal(
        shape[0], 1, len(shape) - 2, *shape[2:]
    )
    gap, energy = ask(duality_gap, x, dual, v, weight, norm_name)
    distance = (x - exact).flatten(1).norm(dim=1)
    label = f"{norm_name} {shape}"
    worst = float((distance - (2 * gap).sqrt()).max())
    require(worst <= error, f"gap of TV, {label}: {worst}")
    require(bool((gap >= 0).all() & (energy >= 0).all()), f"negative gap, {label}")
    solved = ask(
        solve_denoising,
        v,
        weight,
        norm_name,
        rng.choice([1e-1, 1e-6]),
        rng.randint(1, 300),
    )
    distance = (solved.x - exact).flatten(1).norm(dim=1)
    worst = float((distance - solved.error_bound).max())
    require(worst <= error, f"error bound of TV, {label}: {worst}")


def symmetric(rng: Generator, low: float, high: float, n: int = 3) -> Tensor:
    """Return a matrix with a spectrum in an interval, and both ends in it."""
    values = torch.rand(n, generator=rng.torch, dtype=torch.float64)
    values[0], values[1] = 0, 1
    frame = rng.orthogonal(n)
    return frame @ torch.diag(low + (high - low) * values) @ frame.T


def scalar_rates(draw: Draw) -> None:
    """Each formula of a rate bounds the norms of random iterations."""
    rng = generator(draw)
    n = 3
    ends = sorted(rng.choice([0.0, rng.power(-2, 1), rng.power(-2, 1)]) for _ in "ab")
    mu, L = ends
    tau = rng.choice([rng.uniform(0, 2.5) / max(L, 1e-3), rng.power(-2, 2)])
    beta = rng.choice([1.0, 1.0, rng.uniform(0, 2)])
    H = symmetric(rng, mu, L)
    eye = torch.eye(n, dtype=torch.float64)
    values = torch.tensor([1.0, rng.random(), rng.choice([1.0, -1.0])]).double()
    Q = rng.orthogonal(n) @ torch.diag(values) @ rng.orthogonal(n)
    if rng.random() < 0.5:
        vectors = torch.linalg.eigh(H)[1]
        Q = vectors @ torch.diag(values * rng.choice([1.0, -1.0])) @ vectors.T
    size, weight = rng.choice([rng.uniform(0, 1), 1.0, 1.5]), rng.uniform(0, 2)
    grad, prox = eye - tau * H, torch.linalg.inv(eye + tau * H)
    C = 2 * prox - eye
    D, firm, near = size * Q, (eye + Q) / 2, eye + size * Q
    m, L_R = sorted((rng.uniform(-1, 1) * L, rng.uniform(0, 2)))
    R = symmetric(rng, m, L_R)

    def douglas(N: Tensor, beta: float = beta, C: Tensor = C) -> Tensor:
        return (1 - beta / 2) * eye + beta / 2 * (2 * N - eye) @ C

    def relaxed(T: Tensor, beta: float = beta) -> Tensor:
        return (1 - beta) * eye + beta * T

    pairs = [
        ("gradient step", rates.gradient_step(mu, L, tau), grad),
        ("PGD", rates.proximal_gradient(mu, L, tau, size), D @ grad),
        (
            "GD",
            rates.gradient_descent(mu, L, tau, size),
            eye - tau * (H + D),
        ),
        (
            "convex GD",
            rates.convex_gradient_descent(mu, L, tau, m, L_R),
            eye - tau * (H + R),
        ),
        (
            "RED",
            rates.red(mu, L, tau, weight, size),
            eye - tau * (H + weight * (eye - D)),
        ),
        (
            "firm RED",
            rates.red_firmly_nonexpansive(mu, L, tau, weight),
            eye - tau * (H + weight * (eye - firm)),
        ),
        ("HQS", rates.half_quadratic_splitting(mu, tau, size), D @ prox),
        ("reflection", rates.reflection(mu, L, tau), C),
        ("DRS", rates.douglas_rachford(mu, L, tau, size, beta), douglas(D)),
        (
            "firm DRS",
            rates.douglas_rachford_reflected(mu, L, tau, 1.0, beta),
            douglas(firm),
        ),
        (
            "Ryu",
            rates.douglas_rachford_residual(mu, L, tau, size, beta),
            douglas(near),
        ),
        (
            "relaxed",
            rates.relaxed(rates.proximal_gradient(mu, L, tau, size), beta),
            relaxed(D @ grad),
        ),
        (
            "data",
            rates.prox_sensitivity(L, tau, weight, size),
            tau * weight * sensitivity(H, tau, weight, size),
        ),
    ]
    for name, rate, truth in pairs:
        label = f"{name}: mu {mu} L {L} tau {tau} beta {beta} {size} {weight}"
        require_at_most(norm(truth), rate, label)


def sensitivity(H: Tensor, tau: float, precision: float, kappa: float) -> Tensor:
    r"""Return :math:`(1 + \tau\kappa + \tau p H)^{-1} H^{1/2}`."""
    values, vectors = torch.linalg.eigh(H)
    values = values.clamp(min=0)
    inner = values.sqrt() / (1 + tau * kappa + tau * precision * values)
    return vectors @ torch.diag(inner) @ vectors.T


def error_bounds_of_regularisation(draw: Draw) -> None:
    """The error bound of equilibrium regularisation holds for images with a known
    source element."""
    rng = generator(draw)
    size = (1, 2, rng.randint(2, 3))
    n = torch.Size(size).numel()
    q = rng.choice([0.3, 0.9])
    weight = q * (rng.orthogonal(n) if rng.random() < 0.5 else torch.eye(n).double())
    denoiser = MatrixDenoiser(weight, "lipschitz")
    alpha = rng.choice([0.01, 0.1, 1.0])
    mask = rng.choice([0.1, 1.0]) * rng.normal(*size)
    mask[..., 0] = 0
    attained = rng.random() < 0.5
    if attained:
        weight = q * torch.eye(n, dtype=torch.float64)
        denoiser = MatrixDenoiser(weight, "lipschitz")
        mask = torch.full(size, (alpha * (1 - q)) ** 0.5, dtype=torch.float64)
    physics = dinv.physics.Inpainting(size, mask=mask)
    model = ask(
        deq.models.EquilibriumRegularisation,
        denoiser,
        alpha,
        DEQ=deq.Equilibrium(
            deq.Anderson(max_iter=200, rtol=1e-12), on_failure="ignore"
        ),
    ).double()
    # The source condition G(x) = x - D(x) = A^T w.
    w = rng.choice([0.0, 0.01, 1.0]) * rng.normal(1, *size)
    eye = torch.eye(n, dtype=torch.float64)
    with torch.no_grad():
        x = torch.linalg.solve(eye - weight, physics.A_adjoint(w).flatten())
        x = x.reshape(1, *size)
        noise = rng.choice([0.0, 1e-3, 0.3]) * rng.normal(1, *size) * (mask != 0)
        if attained:
            noise = -rng.choice([0.0, 0.1, 1.0]) * w
        got = ask(model, physics.A(x) + noise, physics)
    if "CONVERGED" not in str(model.solution.status):
        raise VoidError("the solver has not converged")
    bound = ask(model.error_bound, float(noise.norm()), float(w.norm()), size)
    error = float((got - x).norm()) - 1e-8 * float(x.norm())
    require_at_most(error, bound.value, f"error bound, alpha {alpha}, q {q}")
