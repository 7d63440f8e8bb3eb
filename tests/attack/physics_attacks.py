"""Spectra and proximal operators of physics against dense matrices."""

from __future__ import annotations

from typing import Any

import torch
from deepinv.physics import DecomposablePhysics
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.certificates import Interval
from deepinv_equilibrium.equilibrium.measured_physics import MeasuredPhysics

from .dense import batch_matrix, flat, matrix, norm
from .draws import Draw, choose, generator
from .outcomes import RefusedError, VoidError, ask, require, require_at_most, run
from .random_physics import SIMPLE, PhysicsCase, combined, physics


def dense(case: PhysicsCase) -> tuple[Tensor, Tensor]:
    """Return the matrices of A and of A_adjoint_A on a batch of the physics."""
    part = case.physics
    if case.batch > 1:
        shape = (1, case.batch, *case.size)

        def apply(x: Tensor) -> Any:
            return flat(part.A(x[0])).reshape(1, -1)

        def gram(x: Tensor) -> Any:
            return part.A_adjoint_A(x[0]).reshape(1, -1)

        A, G = run(batch_matrix, apply, shape), run(batch_matrix, gram, shape)
    else:
        A, G = run(matrix, part.A, case.size), run(matrix, part.A_adjoint_A, case.size)
    return A, G


def check_interval(
    interval: Interval, A: Tensor, G: Tensor, label: str, slack: float
) -> None:
    """Check both ends of an interval that are certified."""
    values = torch.linalg.svdvals(A).square()
    rank = min(A.shape)
    smallest = float(values[-1]) if rank == A.shape[1] else 0.0
    largest = float(values[0])
    symmetric = torch.linalg.eigvalsh((G + G.T) / 2)
    if interval.upper.is_certified:
        require_at_most(largest, interval.upper.value, f"upper end of {label}", slack)
        require_at_most(
            float(symmetric[-1]),
            interval.upper.value,
            f"upper end of A_adjoint_A, {label}",
            slack,
        )
    if interval.lower.is_certified:
        least = interval.lower.value * (1 - slack) - 1e-14 * largest
        require(least <= smallest, f"lower end {least} > {smallest} of {label}")
        require(
            least <= float(symmetric[0]),
            f"lower end {least} > {float(symmetric[0])} of A_adjoint_A, {label}",
        )


def spectra(draw: Draw) -> None:
    """The certified spectrum of a physics contains the eigenvalues of its dense
    operator."""
    check_spectrum(draw(physics()))


def spectra_of_usual_physics(draw: Draw) -> None:
    """The same for masks, blurs and downsampling. A physics with a decomposition is not
    refused."""
    case = draw(physics(SIMPLE, combine=False))
    try:
        check_spectrum(case)
    except RefusedError as error:
        require(not isinstance(case.physics, DecomposablePhysics), f"{case}: {error}")
        raise


def spectra_of_combinations(draw: Draw) -> None:
    """The same for stacks and compositions."""
    check_spectrum(combined(draw, generator(draw)))


def check_spectrum(case: PhysicsCase) -> None:
    """Check the spectrum of a physics."""
    interval = ask(deq.spectrum, case.physics, case.size)
    A, G = dense(case)
    check_interval(interval, A, G, str(case), rounding_of(case))


def rounding_of(case: PhysicsCase) -> float:
    """Return the relative rounding of the operator, which spectra do not include if it
    has parameters in float32."""
    tensors = [*case.physics.buffers(), *case.physics.parameters()]
    single = any(t.dtype in (torch.float32, torch.complex64) for t in tensors)
    return 1e-6 if single else 1e-10


def spectra_after_edits(draw: Draw) -> None:
    """The spectrum of a physics that was edited is that of the edited operator."""
    case = draw(physics())
    rng = generator(draw)
    part = case.physics
    ask(deq.spectrum, part, case.size)
    kind = choose(draw, ("buffer", "data", "method", "adjoint", "cast", "attribute"))
    tensors = [t for t in part.buffers() if t.is_floating_point() and t.is_contiguous()]
    if kind == "buffer" and tensors:
        rng.choice(tensors).mul_(3)
    elif kind == "data" and tensors:
        rng.choice(tensors).data.mul_(-3)
    elif kind == "method":
        A = part.A
        part.A = lambda x, **kwargs: 3 * A(x, **kwargs)
    elif kind == "adjoint":
        adjoint = part.A_adjoint
        part.A_adjoint = lambda y, **kwargs: 3 * adjoint(y, **kwargs)
    elif kind == "cast":
        part.float().double()
    elif kind == "attribute":
        names = [n for n in ("padding", "factor", "use_fft") if hasattr(part, n)]
        if names:
            name = rng.choice(names)
            values = {"padding": "replicate", "factor": 2, "use_fft": True}
            setattr(part, name, values[name])
    interval = ask(deq.spectrum, part, case.size)
    A, G = dense(case)
    check_interval(interval, A, G, f"{kind}: {case}", rounding_of(case))


def proximal_operators(draw: Draw) -> None:
    """The proximal operator that the models use is the dense resolvent, for each image
    of a batch alone."""
    case = draw(physics())
    rng = generator(draw)
    if case.batch > 1:
        raise VoidError("one operator for the batch")
    A, G = dense(case)
    count = 3
    x, z = (rng.normal(count, *case.size) for _ in range(2))
    z[1] *= 1e-3
    if not (bool(A.isfinite().all()) and bool(G.isfinite().all())):
        raise VoidError("the operator is not finite")
    mismatch = norm(G - A.T @ A)
    if mismatch > 1e-9 * norm(A) ** 2:
        raise VoidError("the adjoint is not the transpose")
    gamma = rng.choice([0.1, 1.0, 30.0]) / max(norm(A) ** 2, 1e-12)
    y = run(case.physics.A, x)
    adjoint = run(case.physics.A_adjoint, y).flatten(1)
    if float((adjoint - flat(y) @ A).norm()) > 1e-12 * norm(A) * float(flat(y).norm()):
        raise VoidError("the adjoint rounds the measurement to float32")
    z = z.requires_grad_()
    real = isinstance(y, Tensor) and not y.is_complex()
    y = y.detach().requires_grad_() if real else y
    # Where the operator is computed by iterations.
    case.physics.tol, case.physics.max_iter = 1e-12, 500
    measured = ask(lambda: MeasuredPhysics(case.physics, y).physics)
    tolerance = 1e-9 + gamma * mismatch
    image = ask_prox(measured, z, y, gamma)
    eye = torch.eye(A.shape[1], dtype=torch.float64)
    right = z.flatten(1) + gamma * flat(y).double() @ A
    exact = torch.linalg.solve(eye + gamma * A.T @ A, right.T).T
    scale = float(right.norm(dim=1).max())
    error = (image.flatten(1) - exact).norm(dim=1) / right.norm(dim=1)
    label = f"prox of {case}, gamma {gamma}"
    require(scale == 0 or bool((error <= tolerance).all()), f"{label}: {error}")
    direction = rng.normal(*z.shape)
    inner = (image * direction).sum()
    (gradient,) = torch.autograd.grad(inner, z, retain_graph=True)
    expected = torch.linalg.solve(eye + gamma * A.T @ A, direction.flatten(1).T).T
    if real:
        (in_y,) = torch.autograd.grad(inner, y, allow_unused=True)
        got = torch.zeros_like(y) if in_y is None else in_y
        wrong = norm(got.flatten(1).double() - gamma * expected @ A.T)
        most = 10 * tolerance * gamma * norm(A) * float(direction.norm())
        require(wrong <= most, f"gradient in y of the {label}: {wrong}")
        y = y.detach()
    error = (gradient.flatten(1) - expected).norm(dim=1) / direction.flatten(1).norm(
        dim=1
    )
    require(bool((error <= tolerance).all()), f"gradient of the {label}: {error}")
    second = one_of(y, 1)
    alone = ask_prox(measured_alone(case, second), z[1:2], second, gamma)
    difference = float((alone - image[1:2]).norm() / (alone.norm() + 1e-300))
    require(difference <= 1e-12, f"batch-mates move the {label}: {difference}")


def measured_alone(case: PhysicsCase, y: Any) -> Any:
    """Return the physics of a single measurement."""
    return ask(lambda: MeasuredPhysics(case.physics, y).physics)


def one_of(y: Any, index: int) -> Any:
    """Return the measurement of one image of a batch."""
    if isinstance(y, Tensor):
        return y[index : index + 1]
    return type(y)([one_of(part, index) for part in y])


def ask_prox(part: Any, z: Tensor, y: Any, gamma: float) -> Tensor:
    """Return the proximal operator at z."""
    return ask(part.prox_l2, z, y, torch.tensor(gamma, dtype=torch.float64))
