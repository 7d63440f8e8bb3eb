"""Random fixed-point problems whose solutions and gradients are known."""

from __future__ import annotations

import warnings
from random import Random
from typing import Any

import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.fixed_points import State, Step

from .outcomes import close, require

REAL = (torch.float32, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)
OTHER = (torch.float16, torch.bfloat16, torch.int64, torch.bool)


def one_in(draw: Random, count: int) -> bool:
    return draw.randrange(count) == 0


def some_solver(draw: Random) -> Any:
    budget: dict[str, Any] = {"max_iter": draw.choice([1, 7, 300, 300, 300])}
    budget["rtol"] = draw.choice([0.0, 1e-2, 1e-6, 1e-6, 1e-6])
    if one_in(draw, 5):
        budget["atol"] = draw.choice([0.0, 1e-3])
    kind = draw.choice(["Picard", "Relaxed", "Anderson", "Broyden", "Inertial", "Safe"])
    if kind == "Relaxed":
        return deq.Picard(relaxation=draw.choice([0.5, 0.9, 1.1]), **budget)
    if kind == "Safe":
        return deq.Safeguarded(deq.Anderson(), draw.choice([0.91, 0.95]), **budget)
    if kind in ("Anderson", "Broyden"):
        budget["history_size"] = draw.choice([1, 3, 10])
    return getattr(deq, kind)(**budget)


def some_adjoint(draw: Random, solver: Any) -> Any:
    linear = draw.choice([deq.GMRES, deq.CG, deq.CGNE, deq.CGNR, deq.Anderson])
    adjoints = [
        deq.Implicit(linear(rtol=1e-7, max_iter=300)),
        deq.Implicit(deq.GMRES(rtol=1e-7)),
        deq.JacobianFree(draw.choice([1, 1, 3])),
        deq.Neumann(draw.choice([0, 4])),
    ]
    if solver.fills_inverse_jacobian or one_in(draw, 9):
        adjoints.append(deq.SHINE(draw.choice([0, 4])))
    if not solver.accelerated or one_in(draw, 9):
        adjoints.append(deq.Unrolled())
    return draw.choice(adjoints)


def with_layout(draw: Random, x: Tensor) -> Tensor:
    """Return a tensor of the same values in another layout."""
    choice = 0 if x.dtype in OTHER else draw.randrange(5)
    if choice == 1 and x.ndim > 2:
        return x.transpose(1, -1).contiguous().transpose(1, -1)
    if choice == 2 and x.ndim == 4:
        return x.contiguous(memory_format=torch.channels_last)
    if choice == 3 and x.ndim:
        return torch.stack([x, x], dim=-1)[..., 0]
    if choice == 4 and x.ndim > 1 and x.numel():
        return x[:, :1].expand_as(x).clone() + (x - x[:, :1])
    return x


class Problem:
    r"""The step :math:`x \mapsto r x + b` for each component, whose fixed point is
    :math:`b / (1 - r)`."""

    def __init__(self, draw: Random):
        self.batch = draw.choice([0, 1, 1, 2, 2, 2, 3, 3, 5])
        self.is_tuple = one_in(draw, 2)
        count = draw.choice([1, 2, 3]) if self.is_tuple else 1
        double = one_in(draw, 2)
        kinds = [draw.choice((REAL, COMPLEX))[double] for _ in range(count)]
        if one_in(draw, 12):
            kinds[0] = draw.choice(OTHER)
        if one_in(draw, 15):
            kinds[-1] = REAL[not double]
        shapes = [
            [0 if one_in(draw, 40) else draw.choice([1, 2, 3, 4]) for _ in range(rank)]
            for rank in (draw.randrange(4) for _ in range(count))
        ]
        generator = torch.Generator().manual_seed(draw.randrange(2**31))
        self.is_right = all(kind in REAL + COMPLEX for kind in kinds)
        self.is_half = {*kinds} in ({torch.float16}, {torch.bfloat16})
        self.b, self.r = [], []
        for kind, shape in zip(kinds, shapes, strict=True):
            size = (self.batch, *shape)
            drawn = kind if kind in REAL + COMPLEX else torch.float32
            b = torch.randn(size, generator=generator, dtype=drawn).to(kind)
            rate = 1.8 * torch.rand(self.batch, generator=generator) - 0.9
            rate = rate.reshape(-1, *[1] * len(shape))
            real = drawn.to_real() if kind in REAL + COMPLEX else torch.float32
            self.b.append(with_layout(draw, b))
            self.r.append(rate.to(real if self.is_right else kind))
        self.trained = self.is_right and not one_in(draw, 3)
        if self.trained:
            for tensor in (*self.b, *self.r):
                tensor.requires_grad_()

    def packed(self, parts: list[Tensor]) -> State:
        return tuple(parts) if self.is_tuple else parts[0]

    def step_of(self, rows: Tensor | None) -> Step:
        def step(x: State) -> State:
            parts = x if isinstance(x, tuple) else (x,)
            value = []
            for r, b, part in zip(self.r, self.b, parts, strict=True):
                if rows is not None:
                    r, b = r[rows], b[rows]
                value.append(r * part + b)
            return self.packed(value)

        return step

    @property
    def solution(self) -> list[Tensor]:
        return [b / (1 - r) for b, r in zip(self.b, self.r, strict=True)]


def loss(x: State) -> Tensor:
    parts = x if isinstance(x, tuple) else (x,)
    return torch.stack([part.abs().square().sum() for part in parts]).sum()


def solve(draw: Random) -> str:
    """Solve a random problem, and compare what is found with what is known."""
    problem, solver = Problem(draw), some_solver(draw)
    adjoint = some_adjoint(draw, solver)
    mode = draw.choice(["grad", "grad", "no_grad", "inference"])
    policy = draw.choice(["warn", "ignore", "skip", "raise", "ignore"])
    x0 = problem.packed([with_layout(draw, torch.zeros_like(b)) for b in problem.b])
    contexts = {"no_grad": torch.no_grad, "inference": torch.inference_mode}
    of_samples = problem.step_of if one_in(draw, 2) else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contexts.get(mode, torch.enable_grad)():
            found = deq.fixed_point(
                problem.step_of(None),
                x0,
                solver,
                adjoint,
                policy,
                of_samples=of_samples,
            )
        if problem.is_half:
            return "solved in half precision"
        require(problem.is_right and problem.batch > 0, "a wrong problem was solved")
        require(len(found.status) == problem.batch, "number of statuses")
        parts = found.x if isinstance(found.x, tuple) else (found.x,)
        accurate = bool(found.converged.all()) and solver.rtol == 1e-6 >= solver.atol
        if accurate:
            tolerance = 1e-3 if found.residual.dtype == torch.float32 else 2e-4
            for part, expected in zip(parts, problem.solution, strict=True):
                close(part.detach(), expected.detach(), tolerance)
        if mode != "grad" or not problem.trained:
            require(not any(part.requires_grad for part in parts), "a needless graph")
            return "solved"
        tensors = [*problem.b, *problem.r]
        got = torch.autograd.grad(loss(found.x), tensors, allow_unused=True)
        exact = isinstance(adjoint, deq.Implicit) and (
            found.backward is None or found.backward.converged.all()
        )
        for gradient in got:
            require(
                gradient is None or bool(torch.isfinite(gradient).all()),
                "a NaN gradient",
            )
        if accurate and exact:
            known = torch.autograd.grad(loss(problem.packed(problem.solution)), tensors)
            for gradient, expected in zip(got, known, strict=True):
                require(gradient is not None, "no gradient")
                close(gradient, expected, 2e-3)
            return "solved and differentiated"
        return "differentiated"
