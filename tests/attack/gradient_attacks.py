"""Errors of gradients, plans and batch-mates against dense truths."""

from __future__ import annotations

from typing import Any

import deepinv as dinv
import torch
from hypothesis import strategies as st
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Bound, Kind, SmoothLoss, SquaredError
from deepinv_equilibrium.certificates.gradients import (
    StepConstants,
    gradient_error,
    jacobian_free_error,
    retune_error,
    retune_squared_error,
    trajectory_error,
)
from deepinv_equilibrium.certificates.gradients.planning import plan
from deepinv_equilibrium.certificates.spectra.physics_operator import gram_asymmetry

from ..certificates.known_equilibria import KnownModel
from .draws import SEEDS, Draw, Generator, choose, generator
from .outcomes import VoidError, ask, require, require_at_most, run
from .random_models import ALGORITHMS, ModelCase, build
from .random_physics import PhysicsCase, physics


def configuration(rng: Generator) -> Any:
    """Return a solver and an adjoint, some of them far from converged."""
    solver = rng.choice(
        [
            deq.Picard(max_iter=rng.randint(1, 12), relaxation=rng.choice([1.0, 0.8])),
            deq.Picard(max_iter=rng.randint(1, 12)),
            deq.Anderson(rtol=rng.choice([1e-1, 1e-3])),
            deq.Picard(max_iter=800, rtol=1e-13),
        ]
    )
    adjoint = rng.choice(
        [
            deq.JacobianFree(rng.randint(1, 4)),
            deq.JacobianFree(),
            deq.Neumann(rng.randint(0, 6)),
            deq.Implicit(deq.GMRES(rtol=rng.choice([0.3, 1e-3, 1e-12]))),
            deq.Unrolled(),
            deq.SHINE(),
        ]
    )
    if isinstance(adjoint, deq.SHINE):
        solver = deq.Broyden(rtol=rng.choice([0.1, 1e-4]))
    if isinstance(adjoint, deq.Unrolled):
        solver = deq.Picard(max_iter=rng.randint(1, 8))
    if rng.random() < 0.3:
        return deq.ReTune(rng.randint(1, 10), rng.randint(1, 10))
    return deq.Equilibrium(
        solver, adjoint, layers=rng.choice([1, 1, 2, 3]), on_failure="ignore"
    )


def known_model(draw: Draw, DEQ: Any) -> tuple[KnownModel, Any]:
    """Draw a model with known constants and a loss."""
    rng = generator(draw)
    model = KnownModel(draw(SEEDS) % 10**9, DEQ, affine=rng.random() < 0.4)
    if choose(draw, (True, False)):
        # In one dimension the bounds are attained.
        one = torch.ones(1, 1, dtype=torch.float64)
        model.W1, model.W2, model.u = rng.uniform(0.1, 0.9) * one, one, 0 * one[0]
        model.affine = rng.random() < 0.8
        model.y, model.target = one, rng.uniform(-30, 3) * one
        with torch.no_grad():
            model.theta.copy_(torch.tensor([0.0, 0.0, 1.0]))
    if rng.random() < 0.3:
        # The loss has its minimum near the fixed point.
        away = rng.choice([0.0, 1e-3, 0.1]) * rng.normal(*model.y.shape)
        model.target = model.fixed_point + away
    weight = rng.choice([0.5, 2.0])
    loss: Any = SquaredError(model.target, weight=weight)
    if rng.random() < 0.2:
        count = float(model.y.numel())
        loss = SmoothLoss(
            lambda x: x.sum().square() / 2, Bound(count * (1 + 1e-13), source="ones")
        )
    return model, loss


def gradient_error_bounds(draw: Draw) -> None:
    """The certified bounds of a gradient's error exceed its distance from the gradient
    that dense solves give."""
    rng = generator(draw)
    DEQ = configuration(rng)
    model, loss = known_model(draw, DEQ)
    result = ask(
        gradient_error,
        model.certificate,
        model,
        model.y,
        None,
        loss,
        constants=model.block_constants,
    )
    exact = model.exact_gradient(loss)
    (gradient,) = result.gradient
    error = float((gradient - exact).norm())
    rounding = 1e-13 * float(exact.norm() + gradient.norm())
    label = f"{DEQ.solver} {DEQ.adjoint} layers {DEQ.layers}, rate {model.rate.value}"
    require(result.kind is Kind.CERTIFIED, f"the error is not certified: {label}")
    require_at_most(error - rounding, result.a_posteriori.value, f"gradient, {label}")
    theorem = result.a_priori.get("Theorem 2")
    if theorem is not None and theorem.is_certified:
        require_at_most(error - rounding, theorem.value, f"Theorem 2, {label}")
    corollary = result.a_priori.get("Corollary 1")
    if corollary is not None and corollary.is_certified:
        require_at_most(error - rounding, corollary.value, f"Corollary 1, {label}")
    converged = isinstance(DEQ.solver, deq.Picard) and DEQ.solver.max_iter == 800
    lemma = result.a_priori.get("Lemma 1")
    if lemma is not None and converged:
        floor = 1e-10 * (1 + result.gradient_norm)
        require_at_most(error - floor, lemma.value, f"Lemma 1, {label}")


def theorems_about_gradients(draw: Draw) -> None:
    """The theorems bound the errors of gradients, with exact constants."""
    rng = generator(draw)
    restarts = rng.randint(1, 6)
    model, _ = known_model(draw, deq.ReTune(1, restarts))
    weight = rng.choice([0.5, 2.0])
    loss = SquaredError(model.target, weight=weight)
    rate, smoothness = model.rate.value, 2 * weight
    fixed, x = model.fixed_point, torch.zeros_like(model.y)
    with torch.no_grad():
        for _ in range(restarts - 1):
            x = model.iteration(x, model.y)
    last = model.iteration(x, model.y)
    rows = [
        torch.autograd.grad(value, model.theta, retain_graph=True)[0]
        for value in last.flatten()
    ]
    end = last.detach().requires_grad_()
    (slope,) = torch.autograd.grad(loss(end), end)
    (gradient,) = torch.autograd.grad(last, model.theta, slope)
    exact = model.exact_gradient(loss)
    B = torch.stack(model.parameter_jacobians)
    norms = [spectral(B), spectral(torch.stack(rows).reshape(B.shape))]
    distance = float(fixed.norm())
    away = float((fixed - model.target).norm())
    L_B = model.constants.parameter_jacobian_lipschitz.value
    corollary = retune_squared_error(rate, restarts, distance, away, *norms, L_B)
    bounds = {
        "Theorem 2": retune_error(
            rate, restarts, distance, smoothness * away, smoothness, *norms, L_B
        ),
        "Corollary 1": smoothness * corollary,
    }
    error = float((gradient - exact).norm())
    rounding = 1e-12 * (1 + float(gradient.norm()))
    for name, bound in bounds.items():
        require_at_most(error - rounding, bound, f"{name}, {restarts}, rate {rate}")


def spectral(matrices: Tensor) -> float:
    """Return the root of the sum of the squared norms of matrices."""
    return float(torch.linalg.matrix_norm(matrices, 2).norm())


def adjoints_at_the_fixed_point(draw: Draw) -> None:
    """At the fixed point the gradients of JacobianFree and Neumann are partial sums of
    the Neumann series, and Lemma 1 bounds their errors."""
    rng = generator(draw)
    order = rng.randint(0, 5)
    adjoint = rng.choice([deq.Neumann(order), deq.JacobianFree(order + 1)])
    solver = deq.Picard(max_iter=500, rtol=1e-14)
    DEQ = deq.Equilibrium(solver, adjoint, on_failure="ignore")
    model, loss = known_model(draw, DEQ)
    step, x0 = model.fixed_point_problem(model.y)
    x = ask(deq.fixed_point, step, x0, solver, adjoint, on_failure="ignore").x
    (gradient,) = torch.autograd.grad(loss(x), model.theta)
    fixed = model.fixed_point.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(fixed), fixed)
    expected = torch.zeros_like(gradient)
    for b, B in enumerate(model.parameter_jacobians):

        def row(x: Tensor, b: int = b) -> Tensor:
            return model.iteration(x[None], model.y[b : b + 1])[0]

        J = torch.autograd.functional.jacobian(row, fixed[b].detach())
        u = slope[b]
        for _ in range(order + 1):
            expected += B.T @ u
            u = J.T @ u
    difference = float((gradient - expected).norm())
    # The loss couples the samples, or has a large gradient.
    floor = 1e-8 * (
        1 + float(slope.norm()) * spectral(torch.stack(model.parameter_jacobians))
    )
    require(difference <= floor, f"{adjoint}: {difference} from the partial sum")
    bound = jacobian_free_error(
        model.rate.value,
        float(slope.norm()),
        spectral(torch.stack(model.parameter_jacobians)),
        order,
    )
    error = float((gradient - model.exact_gradient(loss)).norm())
    require_at_most(error - floor, bound, f"Lemma 1, {adjoint}")


def distances_from_neumann_series(draw: Draw) -> None:
    """The gradient of ReTune is as near to a Neumann series at the fixed point as the
    trajectory says."""
    rng = generator(draw)
    layers, restarts = rng.randint(1, 4), rng.randint(1, 4)
    model, loss = known_model(draw, deq.ReTune(layers, restarts))
    if not isinstance(loss, SquaredError):
        raise VoidError("the smoothness of the loss is not a number")
    step, x0 = model.fixed_point_problem(model.y)
    solver, adjoint = model.DEQ.solver, model.DEQ.adjoint
    x = ask(deq.fixed_point, step, x0, solver, adjoint, on_failure="ignore").x
    (gradient,) = torch.autograd.grad(loss(x), model.theta)
    fixed = model.fixed_point.clone().requires_grad_()
    (u,) = torch.autograd.grad(loss(fixed), fixed)
    B = torch.stack(model.parameter_jacobians)
    series, cotangents = torch.zeros_like(gradient), []
    for _ in range(layers):
        series += torch.einsum("bnp,bn->p", B, u)
        cotangents.append(float(u.norm()))
        (u,) = torch.autograd.grad(model.iteration(fixed, model.y), fixed, u)
    iterates = [x0]
    with torch.no_grad():
        for _ in range(layers * restarts):
            iterates.append(model.iteration(iterates[-1], model.y))
    distances = [float((z - fixed).norm()) for z in reversed(iterates)]
    bound = trajectory_error(
        model.rate.value,
        distances[: layers + 1],
        cotangents,
        loss.smoothness.value,
        spectral(B),
        model.constants.jacobian_lipschitz.value,
        model.constants.parameter_jacobian_lipschitz.value,
    )
    difference = float((gradient - series).norm()) - 1e-12 * (1 + float(series.norm()))
    require_at_most(difference, bound, f"{layers} layers, {restarts} restarts")


def plans(draw: Draw) -> None:
    """ReTune with planned layers and restarts meets the tolerance of the plan."""
    rng = generator(draw)
    model, loss = known_model(draw, deq.Equilibrium(layers=rng.choice([1, 1, 2])))
    tol = rng.choice([0.5, 0.1, 1e-2, 1e-3])
    options = {"constants": model.block_constants}
    planned = ask(plan, model.certificate, model, model.y, None, loss, tol, **options)
    require(planned.error.value <= planned.tolerance, f"{planned}")
    model.DEQ = deq.ReTune(planned.layers, planned.restarts)
    step, x0 = model.fixed_point_problem(model.y)
    x = deq.fixed_point(step, x0, model.DEQ.solver, model.DEQ.adjoint).x
    (gradient,) = torch.autograd.grad(loss(x), model.theta)
    exact = model.exact_gradient(loss)
    error = float((gradient - exact).norm()) - 1e-13 * float(exact.norm())
    require_at_most(error, planned.error.value, f"plan for {tol}: {planned}")


def largest_curvature(rng: Generator, model: KnownModel) -> None:
    """Make a model one-dimensional, with its fixed point where tanh bends most."""
    one = torch.ones(1, 1, dtype=torch.float64)
    rate, z = rng.uniform(0.8, 0.95), rng.uniform(0.3, 0.7) * one
    model.W1, model.W2, model.u = one, rate * one, 0 * one[0]
    model.affine, model.y = False, z - rate * z.tanh()
    with torch.no_grad():
        model.theta.copy_(torch.tensor([0.0, 0.0, 1.0]))


def step_constants_of_blocks(draw: Draw) -> None:
    """The constants of a block bound the changes of its Jacobians."""
    rng = generator(draw)
    bent = choose(draw, (True, False))
    layers = rng.randint(1, 3 if bent else 5)
    model = KnownModel(
        draw(SEEDS) % 10**9, deq.Equilibrium(layers=layers), affine=rng.random() < 0.3
    )
    if bent:
        largest_curvature(rng, model)
    known: StepConstants = model.block_constants
    center = model.fixed_point[:1]
    distance = 1e-3 if bent else rng.choice([1e-3, 0.3, 3.0])
    other = center + distance * rng.normal(*center.shape)
    u = model.y[:1]

    def block(x: Tensor) -> Tensor:
        for _ in range(layers):
            x = model.iteration(x, u)
        return x

    jacobian = torch.autograd.functional.jacobian
    count = center.numel()
    J = [jacobian(block, x).reshape(count, count) for x in (center, other)]
    change = float(torch.linalg.matrix_norm(J[0] - J[1], 2))
    distance = float((center - other).norm())
    rounding = 1e-13
    require_at_most(
        change - rounding,
        known.jacobian_lipschitz.value * distance,
        f"L_J of {layers} layers",
    )
    B = []
    for x in (center, other):
        value = block(x).flatten()
        rows = [
            torch.autograd.grad(v, model.theta, retain_graph=True)[0] for v in value
        ]
        B.append(torch.stack(rows))
    change = float(torch.linalg.matrix_norm(B[0] - B[1], 2))
    require_at_most(
        change - 1e-12,
        known.parameter_jacobian_lipschitz.value * distance,
        f"L_B of {layers} layers",
    )


def apply(weight: Tensor, x: Tensor) -> Tensor:
    """Return the products with a matrix. A product of matrices would round differently
    with the size of the batch, which an accelerated solver amplifies."""
    return (weight * x[:, None]).sum(2)


class TanhDenoiser(dinv.models.Denoiser):
    """A smooth contraction with weights, an average of the image and tanh."""

    def __init__(self, weight: Tensor, positive: bool) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight)
        self.positive = positive

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
        z = (apply(self.weight, x.flatten(1)) + sigma).tanh()
        z = 0.6 * x.flatten(1) + 0.2 * apply(self.weight.T, z)
        return (z + 0.5).reshape(x.shape) if self.positive else z.reshape(x.shape)


DIFFERENTIABLE = ("mask", "blurfft", "channelwise", "denoising", "downsampling", "blur")


def smooth_model(draw: Draw, algorithm: str, DEQ: Any) -> tuple[ModelCase, Any]:
    """Draw a model whose step is smooth, with trained parameters and weights."""
    rng = generator(draw)
    operator = draw(physics(DIFFERENTIABLE, combine=False))
    count = torch.Size(operator.size).numel()
    if operator.batch > 1 or count > 40:
        operator = PhysicsCase(dinv.physics.Denoising().double(), (1, 3, 4))
        count = 12
    # An iterative proximal operator is solved to the accuracy of the differences.
    operator.physics.tol, operator.physics.max_iter = 1e-13, 300
    case = build(
        rng, algorithm, operator, networks=False, DEQ=DEQ, stable=True, trained=None
    )
    case.model = case.model.double()
    weight = rng.orthogonal(count) * rng.uniform(0.2, 0.9)
    denoiser = TanhDenoiser(weight, algorithm in ("MD", "PMD"))
    gradient = algorithm in ("GD", "MD")
    prior = dinv.optim.RED(denoiser) if gradient else dinv.optim.PnP(denoiser)
    for index in range(len(case.model.prior)):
        case.model.prior[index] = prior
    return case, denoiser


def implicit_gradients(draw: Draw) -> None:
    """The implicit gradient in the parameters, the weights, the measurement and the
    operator is the derivative of the reconstruction, by central differences."""
    algorithm = choose(draw, ALGORITHMS)
    rng = generator(draw)
    linear = rng.choice([deq.GMRES(rtol=1e-11), deq.GMRES(rtol=1e-11), None])
    # The unrolled gradient is that of the iterations, however many there are.
    adjoint = deq.Unrolled() if linear is None else deq.Implicit(linear)
    solver: Any = deq.Anderson(max_iter=150, rtol=1e-11)
    if linear is None:
        solver = deq.Picard(max_iter=15, rtol=0.0)
    DEQ = deq.Equilibrium(solver, adjoint, on_failure="ignore")
    case, denoiser = smooth_model(draw, algorithm, DEQ)
    part, model = case.physics, case.model
    x = rng.normal(1, *case.size).abs() + 0.5
    if run(gram_asymmetry, part, x) > 1e-9:
        raise VoidError("deepinv's adjoint is not the transpose, of which we warn")
    y = run(part.A, x).detach().requires_grad_()
    target = rng.normal(1, *case.size)
    values: dict[str, Tensor] = {"y": y, "weight": denoiser.weight}
    values.update(model.params_algo.named_parameters())
    names = {"Inpainting": "mask", "ChannelwiseBlur": "filter", "Blur": "filter"}
    if type(part).__name__ in names:
        values["operator"] = getattr(part, names[type(part).__name__])
        values["operator"].requires_grad_()
    if draw(st.integers(0, 2)) == 0:
        only = choose(draw, sorted(values))
        values = {only: values[only]}

    def loss() -> Tensor:
        return (ask(model, y, part) * target).sum()

    value = loss()
    if linear is not None and "CONVERGED" not in str(model.solution.status):
        raise VoidError("the solver has not converged")
    gradients = torch.autograd.grad(value, list(values.values()), allow_unused=True)
    directions = [rng.normal(*t.shape).to(t) for t in values.values()]
    got = sum(
        float((g * d).sum())
        for g, d in zip(gradients, directions, strict=True)
        if g is not None
    )
    size = sum(float(g.norm()) for g in gradients if g is not None)
    before = [t.detach().clone() for t in values.values()]

    def slope(h: float) -> float:
        ends = []
        with torch.no_grad():
            for sign in (h, -h, 2 * h, -2 * h):
                for tensor, old, way in zip(
                    values.values(), before, directions, strict=True
                ):
                    tensor.copy_(old + sign * way)
                ends.append(float(loss()))
        return (8 * (ends[0] - ends[1]) - (ends[2] - ends[3])) / (12 * h)

    # The smaller step is for reconstructions that bend strongly.
    expected = slope(1e-4)
    if abs(expected - got) > 1e-4 * (size + abs(expected)):
        expected = slope(1e-5)
    allowed = 1e-4 * (size + abs(expected)) + 1e-6 * float(target.norm())
    require(
        abs(expected - got) <= allowed,
        f"gradient in {list(values)}: {got}, differences {expected}: {case}",
    )


def batch_mates(draw: Draw) -> None:
    """A reconstruction does not depend on the other images of the batch."""
    algorithm = choose(draw, ALGORITHMS)
    rng = generator(draw)
    solver = rng.choice(
        [deq.Picard(max_iter=12, rtol=1e-6), deq.Anderson(max_iter=12, rtol=1e-6)]
    )
    DEQ = deq.Equilibrium(solver, on_failure="ignore")
    case, _ = smooth_model(draw, algorithm, DEQ)
    x = rng.normal(3, *case.size).abs() + 0.5
    x[0] *= 1e-3
    with torch.no_grad():
        y = run(case.physics.A, x)
        both = run(case.model, y, case.physics)[1:2]
        alone = run(case.model, y[1:2], case.physics)
    difference = float((both - alone).norm() / alone.norm())
    require(difference <= 1e-12, f"batch-mates move {case} by {difference}")
