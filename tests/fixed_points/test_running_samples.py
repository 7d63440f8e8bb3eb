"""Samples that have stopped leave the batch, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.fixed_points import Step
from deepinv_equilibrium.fixed_points.solvers.fixed_point_solver import (
    FixedPointSolver,
)
from deepinv_equilibrium.fixed_points.solvers.linear_solver import LinearSolver

SOLVERS = [
    deq.Anderson(rtol=1e-8),
    deq.Broyden(rtol=1e-8),
    deq.Picard(rtol=1e-8, max_iter=1500),
    deq.Picard(relaxation=0.9, rtol=1e-8, max_iter=1500),
    deq.Safeguarded(deq.Anderson(), rate=0.985, rtol=1e-8),
]
SIZE = 60  # more than a Krylov space needs
# One slow sample in eight.
RATES = torch.tensor([0.2, 0.1, 0.2, 0.2, 0.98, 0.1, 0.2, 0.2], dtype=torch.float64)


class Problem:
    """The step x -> r tanh(M x + b) of each sample, which counts the samples that it is
    evaluated for."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        matrix, _ = torch.linalg.qr(torch.randn(SIZE, SIZE, dtype=torch.float64))
        self.matrix = matrix.requires_grad_()
        self.b = torch.randn(8, SIZE, dtype=torch.float64)
        self.samples = 0

    def step_of(self, rows: Tensor) -> Step:
        rates, b = RATES[rows, None], self.b[rows]

        def step(x: Tensor) -> Tensor:
            self.samples += len(x)
            return rates * torch.tanh(x @ self.matrix + b)

        return step

    def solve(self, solver: FixedPointSolver, adjoint: Any, **kwargs: Any) -> Any:
        self.samples = 0
        x0 = torch.zeros(8, SIZE, dtype=torch.float64)
        solution = deq.fixed_point(
            self.step_of(torch.arange(8)), x0, solver, adjoint, **kwargs
        )
        return solution, self.samples


ADJOINTS = [
    deq.Implicit(deq.GMRES(rtol=1e-10)),
    deq.Implicit(deq.GMRES(rtol=1e-10, restart=3, max_iter=300)),
    deq.Implicit(deq.CGNE(rtol=1e-10)),
    deq.Implicit(deq.CGNR(rtol=1e-10)),
    deq.Implicit(deq.Anderson(rtol=1e-10)),
    deq.JacobianFree(),
    deq.Neumann(20),
]


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_solution_and_report_are_those_of_the_whole_batch(
    solver: FixedPointSolver,
) -> None:
    problem = Problem()
    with torch.no_grad():
        whole, most = problem.solve(solver, deq.JacobianFree())
        found, samples = problem.solve(
            solver, deq.JacobianFree(), of_samples=problem.step_of
        )
    torch.testing.assert_close(found.x, whole.x, rtol=1e-12, atol=1e-14)
    assert found.status == whole.status
    assert found.iterations.tolist() == whole.iterations.tolist()
    torch.testing.assert_close(
        found.history, whole.history, rtol=1e-3, atol=1e-9, equal_nan=True
    )
    assert most == 8 * int(whole.iterations.max())
    if not isinstance(solver, deq.Broyden):
        assert samples <= 0.4 * most


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=str)
def test_gradient_and_its_report_are_those_of_the_whole_batch(adjoint: Any) -> None:
    problem = Problem()
    results = []
    for of_samples in (None, problem.step_of):
        solution, _ = problem.solve(
            deq.Anderson(rtol=1e-12), adjoint, of_samples=of_samples
        )
        (gradient,) = torch.autograd.grad(solution.x.square().sum(), problem.matrix)
        results.append((gradient, solution.backward))
    (whole, report), (found, other) = results
    torch.testing.assert_close(found, whole, rtol=1e-8, atol=1e-12)
    if report is not None:
        assert other.status == report.status
        assert other.iterations.tolist() == report.iterations.tolist()


@pytest.mark.parametrize("solver", [deq.GMRES(rtol=1e-10), deq.Anderson(rtol=1e-10)])
def test_products_of_samples_that_have_stopped_are_not_computed(
    solver: LinearSolver | FixedPointSolver,
) -> None:
    problem = Problem()
    products = []

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            products.append(len(grad))
            return grad

    def step_of(rows: Tensor) -> Step:
        step = problem.step_of(rows)
        return lambda x: step(Counted.apply(x))

    adjoint = deq.Implicit(solver)
    for of_samples in (None, step_of):
        products.clear()
        x0 = torch.zeros(8, SIZE, dtype=torch.float64)
        solution = deq.fixed_point(
            step_of(torch.arange(8)), x0, adjoint=adjoint, of_samples=of_samples
        )
        solution.x.square().sum().backward()
        if of_samples is None:
            most = sum(products)
    assert sum(products) < most


class Wrong:
    """Restrictions that belong to other samples, or fail."""

    @staticmethod
    def other_samples(problem: Problem, rows: Tensor) -> Step:
        return problem.step_of((rows + 1) % 8)

    @staticmethod
    def whole_batch(problem: Problem, rows: Tensor) -> Step:
        return problem.step_of(torch.arange(8))

    @staticmethod
    def raises(problem: Problem, rows: Tensor) -> Step:
        raise RuntimeError("this step has only the whole batch")

    @staticmethod
    def none(problem: Problem, rows: Tensor) -> Step | None:
        return None


@pytest.mark.parametrize("wrong", ["other_samples", "whole_batch", "raises", "none"])
def test_a_wrong_restriction_changes_nothing(wrong: str) -> None:
    problem = Problem()
    results = []
    for of_samples in (None, lambda rows: getattr(Wrong, wrong)(problem, rows)):
        solution, _ = problem.solve(
            deq.Anderson(), deq.Implicit(), of_samples=of_samples
        )
        (gradient,) = torch.autograd.grad(solution.x.sum(), problem.matrix)
        results.append((solution.x, gradient))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_a_sample_that_turns_bad_leaves_the_batch() -> None:
    def step_of(rows: Tensor) -> Step:
        b = torch.tensor([[0.9], [torch.nan], [0.1], [0.2]])[rows]
        return lambda x: b * x.cos()

    solution = deq.fixed_point(
        step_of(torch.arange(4)),
        torch.zeros(4, 1),
        on_failure="ignore",
        of_samples=step_of,
    )
    assert solution.status[1] is deq.Status.NONFINITE
    assert solution.converged.tolist() == [True, False, True, True]
