"""Contracts of adjoints about the gradients of fixed points."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..contracts import NotApplicableError, require_close
from ..random_problems import as_tensor, normal
from .adjoint_case import (
    AdjointCase,
    AdjointProblem,
    Formula,
    StepWithOutput,
    exact_adjoint,
)

NAMES = ("the weights", "the scale", "the offset y")


def gives_the_declared_gradient(case: AdjointCase) -> None:
    r"""The gradient is :math:`v^\top \partial_\theta f(x^*)` with the declared formula
    of :math:`v`, for states of every kind and every solver that is accepted."""
    formula = _formula(case)
    for name, problem in case.problems.items():
        c = normal(*problem.parameters[2].shape, seed=9)
        for solver in case.solvers:
            solution = case.solve(problem.step, problem.x0, solver)
            x = problem.layout.pack(solution.x)
            found = torch.autograd.grad((c * x).sum(), problem.parameters)
            value, jacobians = problem.jacobians(x)
            right = _gradient(problem, value, formula, jacobians, c)
            wrong = _gradient(problem, value, formula, jacobians.mT, c)
            for what, got, expected, other in zip(
                NAMES, found, right, wrong, strict=True
            ):
                if not _close(got, expected, case.rtol):
                    where = f"the gradient of {what} of the problem {name!r} after "
                    where += f"{type(solver).__name__}"
                    hint = _diagnosis(got, expected, other)
                    require_close(where + hint, got, expected, case.rtol)


def agrees_with_finite_differences(case: AdjointCase) -> None:
    """The gradient of an exact adjoint agrees with central differences of the
    solution."""
    _require_exact(case)
    solver = case.solvers[0]
    for name, problem in case.problems.items():
        c = normal(*problem.parameters[2].shape, seed=9)

        def loss(parameters: Sequence[Tensor], at: AdjointProblem, c: Tensor) -> Tensor:
            moved = at.with_parameters(parameters)
            solution = case.solve(moved.step, moved.x0, solver)
            return (c * moved.layout.pack(solution.x)).sum()

        directions = [normal(*p.shape, seed=10) for p in problem.parameters]
        gradients = torch.autograd.grad(
            loss(problem.parameters, problem, c), problem.parameters
        )
        found = _inner(gradients, directions)
        h = 1e-4
        with torch.no_grad():
            ends = [
                loss(_moved(problem.parameters, directions, sign * h), problem, c)
                for sign in (1, -1)
            ]
        expected = (ends[0] - ends[1]) / (2 * h)
        what = f"the directional derivative of the problem {name!r}"
        require_close(what, found, expected, max(case.rtol, 1e-6))


def differentiates_outputs(case: AdjointCase) -> None:
    """The gradient of a step's output, which is not part of its state, is right."""
    _require_exact(case)
    form = "potential" if case.symmetric else "tanh"
    problem = AdjointProblem.draw(form, "vector", case.symmetric)
    solver = case.solvers[0]
    c, d = normal(3, problem.kind.size, seed=9), normal(3, 2, seed=11)

    def loss(parameters: Sequence[Tensor]) -> Tensor:
        moved = problem.with_parameters(parameters)
        solution = case.solve(StepWithOutput(moved), moved.x0, solver)
        assert solution.output is not None
        return (c * as_tensor(solution.x)).sum() + (d * solution.output).sum()

    directions = [normal(*p.shape, seed=10) for p in problem.parameters]
    gradients = torch.autograd.grad(loss(problem.parameters), problem.parameters)
    with torch.no_grad():
        ends = [
            loss(_moved(problem.parameters, directions, sign * 1e-4))
            for sign in (1, -1)
        ]
    expected = (ends[0] - ends[1]) / 2e-4
    found = _inner(gradients, directions)
    what = "the directional derivative through an output"
    require_close(what, found, expected, max(case.rtol, 1e-6))


def differentiates_twice_or_raises(case: AdjointCase) -> None:
    """The gradient of the gradient is right, or an error is raised."""
    problem = list(case.problems.values())[-1]
    weight, scale, y = (p.detach() for p in problem.parameters)
    d = normal(*y.shape, seed=12)
    solver = case.solvers[0]

    def gradient(data: Tensor, again: bool) -> Tensor:
        data = data.detach().requires_grad_() if not again else data
        moved = problem.with_parameters((weight, scale, data))
        solution = case.solve(moved.step, moved.x0, solver)
        loss = moved.layout.pack(solution.x).pow(3).sum()
        return torch.autograd.grad(loss, data, create_graph=again)[0]

    data = y.clone().requires_grad_()
    try:
        product = (d * gradient(data, again=True)).sum()
        (second,) = torch.autograd.grad(product, data)
    except (NotImplementedError, RuntimeError):
        return
    h = 1e-4
    ends = [gradient(y + sign * h * d, again=False) for sign in (1, -1)]
    expected = (d * (ends[0] - ends[1])).sum() / (2 * h)
    require_close(
        "the second derivative, which did not raise an error, along one direction",
        (d * second).sum(),
        expected,
        max(case.rtol, 1e-5),
    )


def _formula(case: AdjointCase) -> Formula:
    if case.formula is None:
        raise NotApplicableError("the adjoint declares no formula")
    return case.formula


def _require_exact(case: AdjointCase) -> None:
    if case.formula is not exact_adjoint:
        raise NotApplicableError("the adjoint is not declared exact")


def _gradient(
    problem: AdjointProblem,
    value: Tensor,
    formula: Formula,
    jacobians: Tensor,
    c: Tensor,
) -> tuple[Tensor, ...]:
    rows = [formula(J, row) for J, row in zip(jacobians, c, strict=True)]
    return torch.autograd.grad(
        value, problem.parameters, torch.stack(rows), retain_graph=True
    )


def _inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


def _moved(
    parameters: Sequence[Tensor], directions: Sequence[Tensor], h: float
) -> list[Tensor]:
    pairs = zip(parameters, directions, strict=True)
    return [p.detach() + h * direction for p, direction in pairs]


def _close(a: Tensor, b: Tensor, rtol: float) -> bool:
    return bool((a - b).abs().max() <= rtol * b.abs().max())


def _diagnosis(found: Tensor, right: Tensor, untransposed: Tensor) -> str:
    """Return an explanation of a wrong gradient, or an empty string."""
    if _close(found, untransposed, 1e-3):
        return ", computed with J in the place of its transpose,"
    factor = float((found * right).sum() / right.square().sum())
    if _close(found, factor * right, 1e-3):
        return f", which is {factor:.4g} times the right one,"
    return ""
