"""The gate: second derivatives raise, and the memory of the graph is freed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from deepinv_equilibrium.fixed_points import (
    CG,
    CGNE,
    SHINE,
    Adjoint,
    Anderson,
    Broyden,
    Implicit,
    JacobianFree,
    Neumann,
    Picard,
    Unrolled,
    fixed_point,
)

from ...one_test import in_one_test

F64 = torch.float64
ADJOINTS = [
    Implicit(),
    Implicit(CGNE()),
    Implicit(Anderson()),
    Implicit(Broyden()),
    Neumann(order=0),
    Neumann(),
    JacobianFree(),
    JacobianFree(steps=3),
    SHINE(),
]
EVERY = [*ADJOINTS, Implicit(CG()), Implicit(Picard()), SHINE(refine=2), Unrolled()]
REFUSED = "cannot be differentiated again"


@pytest.fixture(params=ADJOINTS, ids=str)
def once(
    request: pytest.FixtureRequest,
    random_contraction: Callable[..., Tensor],
    solver_for: Any,
):
    """Return a solution, its parameter and its measurement."""
    theta = random_contraction(3, 0.7).requires_grad_()
    y = torch.randn(2, 3, dtype=F64, requires_grad=True)
    solution = fixed_point(
        lambda x: torch.tanh(x @ theta) + y,
        torch.zeros(2, 3, dtype=F64),
        solver_for(request.param),
        request.param,
    )
    return solution.x, theta, y


def test_create_graph_does_not_change_the_gradient(once: Any) -> None:
    x, theta, y = once
    plain = torch.autograd.grad(x.square().sum(), (theta, y), retain_graph=True)
    grads = torch.autograd.grad(x.square().sum(), (theta, y), create_graph=True)
    assert all(gradient.requires_grad for gradient in grads)
    for gradient, expected in zip(grads, plain, strict=True):
        assert torch.equal(gradient.detach(), expected)


@in_one_test("first", [0, 1], ids=["theta", "y"])
@in_one_test("second", [0, 1], ids=["theta", "y"])
@in_one_test("power", [1, 2], ids=["linear loss", "quadratic loss"])
def test_second_derivative_raises(
    once: Any, first: int, second: int, power: int
) -> None:
    x, *parameters = once
    loss = (x**power).sum()
    (gradient,) = torch.autograd.grad(loss, parameters[first], create_graph=True)
    with pytest.raises(NotImplementedError, match=REFUSED):
        torch.autograd.grad(gradient.sum(), parameters[second])


def test_second_derivative_in_the_target_raises(once: Any) -> None:
    x, theta, _ = once
    target = torch.zeros_like(x, requires_grad=True)
    loss = (x - target).square().sum()
    (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
    with pytest.raises(NotImplementedError, match=REFUSED):
        torch.autograd.grad(gradient.sum(), target)


def test_gradient_penalty_raises(once: Any) -> None:
    x, _, y = once
    (gradient,) = torch.autograd.grad(x.sum(), y, create_graph=True)
    with pytest.raises(NotImplementedError, match=REFUSED):
        gradient.square().sum().backward()


@in_one_test("adjoint", ADJOINTS, ids=str)
@in_one_test("through", ["x", "output", "both"])
def test_second_derivative_through_an_output_raises(
    output_problem: Any, adjoint: Adjoint, through: str, solver_for: Any
) -> None:
    step = output_problem.step(*output_problem.parameters)
    solution = fixed_point(step, output_problem.x0, solver_for(adjoint), adjoint)
    loss = 0.0
    if through != "output":
        loss = loss + solution.x.sum()
    if through != "x":
        loss = loss + solution.output.sum()
    weight = output_problem.parameters[0]
    (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
    with pytest.raises(NotImplementedError, match=REFUSED):
        torch.autograd.grad(gradient.sum(), weight)


@in_one_test("adjoint", ADJOINTS, ids=str)
def test_gradients_of_state_and_output_add_up(
    output_problem: Any, adjoint: Adjoint, solver_for: Any
) -> None:
    """A loss on one of them is a loss with a zero cotangent in the other."""
    step = output_problem.step(*output_problem.parameters)
    solution = fixed_point(
        step, output_problem.x0, solver_for(adjoint), adjoint, "ignore"
    )
    assert solution.output is not None
    kwargs = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    losses = (solution.x.sin().sum(), solution.output.cos().sum())
    parts = [
        torch.autograd.grad(x, output_problem.parameters, **kwargs) for x in losses
    ]
    whole = torch.autograd.grad(sum(losses), output_problem.parameters, **kwargs)
    # Iterative adjoints stop at their tolerance, which is relative to the right side.
    tolerance = 1e-2 if isinstance(adjoint, Implicit) else 1e-10
    for one, other, both in zip(*parts, whole, strict=True):
        difference = torch.linalg.vector_norm(one + other - both)
        assert difference <= tolerance * torch.linalg.vector_norm(both)


@pytest.mark.parametrize("adjoint", [Implicit(), JacobianFree()], ids=str)
def test_x0_has_no_gradient(adjoint: Adjoint) -> None:
    x0 = torch.ones(1, 2, dtype=F64, requires_grad=True)
    y = torch.ones(1, 2, dtype=F64, requires_grad=True)
    solution = fixed_point(lambda x: x / 2 + y, x0, Picard(), adjoint)
    grads = torch.autograd.grad(solution.x.sum(), (x0, y), allow_unused=True)
    assert grads[0] is None
    assert grads[1] is not None


def test_solution_may_be_changed_in_place() -> None:
    """The backward does not use the returned tensor."""
    y = torch.ones(1, 2, dtype=F64, requires_grad=True)
    x = fixed_point(lambda x: torch.tanh(x) / 2 + y, torch.zeros(1, 2).double()).x
    expected = torch.autograd.grad(x.sum(), y, retain_graph=True)
    x.mul_(1.0)
    torch.testing.assert_close(torch.autograd.grad(x.sum(), y), expected)


@pytest.mark.parametrize("adjoint", EVERY, ids=str)
@pytest.mark.parametrize("problem", ["potential"], indirect=True)
def test_memory_does_not_grow_over_training(
    problem: Any, adjoint: Adjoint, live_bytes: Any, solver_for: Any
) -> None:
    """The cyclic collector is off, and the last solution is still referenced."""
    solver = solver_for(adjoint)
    for parameter in problem.parameters:
        parameter.grad = torch.zeros_like(parameter)
    totals = []
    with live_bytes() as live:
        for index in range(4):
            step = problem.step(*problem.parameters)
            solution = fixed_point(step, problem.x0, solver, adjoint, "ignore")
            solution.x.square().sum().backward()
            assert live.saved == 0
            if index in (1, 3):
                totals.append(live.total)
    assert totals[0] == totals[1]


@pytest.mark.parametrize("adjoint", EVERY, ids=str)
@pytest.mark.parametrize("problem", ["potential"], indirect=True)
def test_second_backward_needs_retain_graph(
    problem: Any, adjoint: Adjoint, solver_for: Any
) -> None:
    step = problem.step(*problem.parameters)
    x = fixed_point(step, problem.x0, solver_for(adjoint), adjoint, "ignore").x
    loss = x.square().sum()
    loss.backward(retain_graph=True)
    once = [parameter.grad.clone() for parameter in problem.parameters]
    loss.backward()
    for parameter, first in zip(problem.parameters, once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * first, rtol=1e-14, atol=0)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()
