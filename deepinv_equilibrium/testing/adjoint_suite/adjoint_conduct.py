"""Contracts about how an adjoint treats samples, values and memory."""

from __future__ import annotations

import gc
import math
import weakref
from dataclasses import replace

import torch
from torch import Tensor

from ...fixed_points import State, Status
from ..contracts import require, require_close
from ..frozen_values import require_frozen_value
from ..random_problems import as_tensor
from .adjoint_case import AdjointCase


def is_a_frozen_value(case: AdjointCase) -> None:
    """The adjoint is a frozen dataclass without tensors, with a hash and a repr."""
    require_frozen_value(case.component)


def changes_no_value(case: AdjointCase) -> None:
    """The fixed point is the same with and without gradient, and where nothing can be
    differentiated there is no graph."""
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
    """A sample that turns non-finite adds nothing to any gradient."""
    problem = next(iter(case.problems.values()))
    weight, scale, y = problem.parameters
    for solver in case.solvers:
        spoilt = y.detach().clone()
        spoilt[0] = math.nan
        batch = problem.with_parameters((weight, scale, spoilt))
        solution = case.solve(batch.step, batch.x0, solver)
        require(
            solution.status[0] is Status.NONFINITE,
            f"the sample with NaN ends as {solution.status[0].name}, not NONFINITE",
        )
        loss = batch.layout.pack(solution.x).sin().sum()
        found = torch.autograd.grad(loss, (weight, scale))
        others = problem.with_parameters((weight[1:], scale, y[1:].detach()))
        solution = case.solve(others.step, others.x0, solver)
        loss = others.layout.pack(solution.x).sin().sum()
        expected = torch.autograd.grad(loss, (weight, scale))
        for what, got, right in zip(("weights", "scale"), found, expected, strict=True):
            where = f"the gradient of the {what} beside a sample with NaN"
            require_close(where, got, right, 1e-10)


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


def frees_its_memory(case: AdjointCase) -> None:
    """The backward evaluates no step, and what was recorded is freed after it, without
    the collector of cycles."""
    problem = next(iter(case.problems.values()))
    values: list[weakref.ref[Tensor]] = []

    def step(state: State) -> State:
        value = problem.step(state)
        values.append(weakref.ref(as_tensor(value)))
        return value

    collects = gc.isenabled()
    gc.disable()
    try:
        solution = case.solve(step, problem.x0, case.solvers[0])
        count = len(values)
        loss = as_tensor(solution.x).sum()
        torch.autograd.grad(loss, problem.parameters)
        require(
            len(values) == count,
            f"the backward evaluates the step {len(values) - count} times",
        )
        del solution, loss
        alive = sum(value() is not None for value in values)
        require(
            alive == 0,
            f"{alive} values of the step are alive after the backward: a cycle of "
            "references holds them",
        )
    finally:
        if collects:
            gc.enable()
