"""Count the vector-Jacobian products that each adjoint solver needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import deepinv_equilibrium as deq

from . import ours
from .problem import Problem
from .reconstruct import Reconstruct

TOLERANCE = 2e-4
MAX_BUDGET = 256


@dataclass(frozen=True)
class Gradient:
    """Gradients of the loss in the weights and in the measurement."""

    weights: Tensor
    y: Tensor

    def error(self, reference: Gradient) -> float:
        """Return the larger of the two relative errors."""
        return max(
            float((mine - true).norm() / true.norm())
            for mine, true in (
                (self.weights.double(), reference.weights),
                (self.y.double(), reference.y),
            )
        )


@dataclass(frozen=True)
class BackwardSolve:
    """
    One backward pass.

    :param int products: backward passes through the denoiser, without the one that
        maps the solution of the adjoint system to the weights.
    :param float error: relative error of the gradient.
    """

    products: int
    error: float

    def __str__(self) -> str:
        if self.error <= TOLERANCE:
            return f"{self.products:5d}     error {self.error:.1e}"
        return f"never     error {self.error:.1e} after {self.products}"


def gradient(problem: Problem, reconstruct: Reconstruct) -> tuple[Gradient, int]:
    """Return the gradient at the fixed point and the number of products."""
    y = problem.y.clone().requires_grad_()
    with problem.denoiser.counting() as count:
        loss = problem.loss(reconstruct(y, problem.solution))
        found = torch.autograd.grad(loss, [y, *problem.weights])
    flat = torch.cat([g.flatten() for g in found[1:]])
    return Gradient(flat, found[0]), count.products - 1


def reference(problem: Problem) -> Gradient:
    """Return the gradient in float64 with the adjoint system solved to 1e-9."""
    solver = deq.GMRES(max_iter=200, rtol=1e-9, restart=200)
    once = deq.Picard(max_iter=1, rtol=0.0)
    double = problem.double()
    return gradient(double, ours.equilibrium(double, once, deq.Implicit(solver)))[0]


def fewest_products(
    problem: Problem, true: Gradient, method: Callable[[int], Reconstruct]
) -> BackwardSolve:
    r"""
    Find the smallest budget whose gradient is accurate enough, by bisection.

    :param Problem problem: the problem.
    :param Gradient true: the reference.
    :param Callable method: maps a budget to a model.
    :return: the backward pass of the smallest sufficient budget, or of the largest
        budget.
    """

    def attempt(budget: int) -> BackwardSolve:
        found, products = gradient(problem, method(budget))
        return BackwardSolve(products, found.error(true))

    low, high = 2, MAX_BUDGET
    best = attempt(high)
    while best.error <= TOLERANCE and low < high:
        middle = (low + high) // 2
        tried = attempt(middle)
        if tried.error <= TOLERANCE:
            best, high = tried, middle
        else:
            low = middle + 1
    return best
