"""Contracts of adjoints about samples, values and memory."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...fixed_points import FixedPointSolver, State
from ..contracts import require, require_close
from ..frozen_values import require_frozen_value
from ..random_problems import as_tensor
from .adjoint_case import AdjointCase, AdjointProblem


def is_a_frozen_value(case: AdjointCase) -> None:
    """The adjoint is a frozen dataclass without tensors, with a hash and a repr."""
    require_frozen_value(case.component)


def changes_no_value(case: AdjointCase) -> None:
    """The fixed point is the same with and without gradient. A step without parameters
    gives a fixed point without graph."""
    problem = next(iter(case.problems.values()))
    for solver in case.solvers:
        tracked = as_tensor(case.solve(problem.step, problem.x0, solver).x)
        with torch.no_grad():
            untracked = as_tensor(case.solve(problem.step, problem.x0, solver).x)
        require(tracked.requires_grad, "x carries no gradient")
        require_close("x with gradient", tracked, untracked, 1e-12)
        constant = problem.with_parameters([p.detach() for p in problem.parameters])
        x = as_tensor(case.solve(constant.step, constant.x0, solver).x)
        require(not x.requires_grad, "x of a step without parameters carries a graph")


def keeps_samples_apart(case: AdjointCase) -> None:
    """A sample's gradient is the same alone and in any batch, in any order."""
    problem = list(case.problems.values())[-1]
    weight, scale, y = (p.detach() for p in problem.parameters)
    # Near convergence Broyden's estimate, which SHINE reads, amplifies the rounding.
    solver = replace(case.solvers[0], rtol=1e-6)

    def gradient(order: list[int]) -> Tensor:
        data = y[order].clone().requires_grad_()
        part = problem.with_parameters((weight[order], scale, data))
        solution = case.solve(part.step, part.x0, solver)
        loss = part.layout.pack(solution.x).pow(3).sum()
        return torch.autograd.grad(loss, data)[0]

    together = gradient([0, 1, 2])
    for order in ([0], [1], [2], [2, 0, 1]):
        for row, i in zip(gradient(order), order, strict=True):
            what = f"the gradient of sample {i} in the batch {order}"
            require_close(what, row, together[i], 1e-11)


def leaves_out_failed_samples(case: AdjointCase) -> None:
    """A sample that becomes non-finite adds nothing to any gradient, even if its
    derivatives are not finite."""
    problem = next(iter(case.problems.values()))
    weight, scale, y = problem.parameters
    for solver in case.solvers:
        others = problem.with_parameters((weight[1:], scale, y[1:].detach()))
        expected = _gradients(case, others, solver, (weight, scale))
        for spoilt in ("offset", "weights"):
            parameters = [p.detach().clone().requires_grad_() for p in (weight, scale)]
            data = y.detach().clone()
            with torch.no_grad():
                (data if spoilt == "offset" else parameters[0])[0] = math.nan
            batch = problem.with_parameters((*parameters, data))
            found = _gradients(case, batch, solver, parameters)
            for what, got, right in zip(
                ("weights", "scale"), found, expected, strict=True
            ):
                where = f"the gradient of the {what} beside a sample with NaN in the "
                require_close(where + spoilt, got, right, 1e-10)


def _gradients(
    case: AdjointCase,
    problem: AdjointProblem,
    solver: FixedPointSolver,
    parameters: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """Return the gradients of a loss of all samples, solved from ones."""
    start = problem.layout.unpack(torch.ones_like(problem.parameters[2]))
    solution = case.solve(problem.step, start, solver)
    loss = problem.layout.pack(solution.x).sin().sum()
    return torch.autograd.grad(loss, parameters)


def scales_with_the_loss(case: AdjointCase) -> None:
    """Scaling the loss scales the gradient and changes nothing else."""
    problem = next(iter(case.problems.values()))
    solver = case.solvers[0]

    def gradient(factor: float) -> Tensor:
        solution = case.solve(problem.step, problem.x0, solver)
        loss = factor * problem.layout.pack(solution.x).sum()
        return torch.autograd.grad(loss, problem.parameters[2])[0]

    base = gradient(1.0)
    for factor in (2.0**-20, 2.0**20):  # powers of two round alike
        what = f"the gradient of {factor:.0e} times the loss"
        require_close(what, gradient(factor) / factor, base, 1e-9)


class _Mark(torch.autograd.Function):
    """The identity, whose node in the graph can be referred to weakly."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def frees_its_memory(case: AdjointCase) -> None:
    """The backward does not evaluate the step. What was recorded is freed with the
    solution, without the garbage collector."""
    problem = next(iter(case.problems.values()))
    nodes: list[weakref.ref[Any]] = []
    evaluations = 0

    def step(state: State) -> State:
        nonlocal evaluations
        evaluations += 1
        value = _Mark.apply(as_tensor(problem.step(state)))
        if value.grad_fn is not None:
            nodes.append(weakref.ref(value.grad_fn))
        return value

    collects = gc.isenabled()
    gc.disable()
    try:
        solution = case.solve(step, problem.x0, case.solvers[0])
        loss = as_tensor(solution.x).sum()
        count = evaluations
        torch.autograd.grad(loss, problem.parameters)
        require(
            evaluations == count,
            f"the backward evaluates the step {evaluations - count} times",
        )
        require(nodes, "no evaluation of the step is recorded")
        del solution, loss
        alive = sum(node() is not None for node in nodes)
        require(
            alive == 0,
            f"{alive} recorded evaluations are held after the backward: a cycle of "
            "references holds them",
        )
    finally:
        if collects:
            gc.enable()
