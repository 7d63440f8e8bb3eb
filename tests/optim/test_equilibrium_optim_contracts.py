"""Number of evaluations of a solve, and independence of its samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import deepinv as dinv
import pytest
import torch
from torch import Tensor

import deepinv_equilibrium as deq

from .problems import PROXIMAL_OPERATORS


def count_adjoints(physics: Any, y: Tensor) -> list[bool]:
    """Log every evaluation of the adjoint at y, and whether gradients were enabled."""
    log: list[bool] = []
    adjoint = physics.A_adjoint

    def counted(v: Tensor, **kwargs: Any) -> Tensor:
        if v is y:
            log.append(torch.is_grad_enabled())
        return adjoint(v, **kwargs)

    physics.A_adjoint = counted
    return log


@pytest.mark.parametrize(("algorithm", "closed_form"), PROXIMAL_OPERATORS)
def test_solve_without_gradients_evaluates_the_step_as_often_as_it_reports(
    closed_form: bool, algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm, closed_form=closed_form)
    physics = problem.physics()
    log = count_adjoints(physics, problem.y)
    model = problem.model(DEQ=deq.Equilibrium(deq.Picard(max_iter=6, rtol=0.0)))
    with torch.no_grad():
        model(problem.y, physics)
    assert problem.denoisers[0].evaluations == 6
    assert log == [False] * len(log)
    # Once for the initial image, once for the solve.
    assert len(log) <= 2


@pytest.mark.parametrize("solver", [deq.Anderson, deq.Broyden])
def test_accelerated_solve_evaluates_no_more_than_it_reports(
    solver: type[deq.fixed_points.FixedPointSolver], make_problem: Callable[..., Any]
) -> None:
    problem = make_problem("PGD")
    model = problem.model(DEQ=deq.Equilibrium(solver(max_iter=9, rtol=0.0)))
    with torch.no_grad():
        model(problem.y, problem.physics())
    assert problem.denoisers[0].evaluations == 9
    assert model.solution.evaluations.tolist() == [9, 9]


def test_recorded_solve_evaluates_at_most_one_step_more(
    algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm)
    model = problem.model(DEQ=deq.Equilibrium(deq.Anderson(max_iter=50, rtol=1e-8)))
    model(problem.y, problem.physics()).sum().backward()
    assert problem.denoisers[0].evaluations == int(model.solution.evaluations.max())
    further = model.solution.evaluations - model.solution.iterations
    # A sample that goes on alone is evaluated once more, for a comparison.
    assert further.tolist() in ([1, 1], [1, 2], [2, 1])


@pytest.mark.parametrize(("algorithm", "closed_form"), PROXIMAL_OPERATORS)
@pytest.mark.parametrize(
    "solver",
    [
        deq.Picard(max_iter=100, rtol=1e-5),
        deq.Anderson(rtol=1e-5),
        deq.Anderson(rtol=1e-13),
        deq.Broyden(rtol=1e-5),
    ],
    ids=["Picard", "Anderson", "tight", "Broyden"],
)
def test_sample_does_not_depend_on_the_rest_of_the_batch(
    solver: deq.fixed_points.FixedPointSolver,
    closed_form: bool,
    algorithm: str,
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem(algorithm, closed_form=closed_form)
    problem.y[0] *= 0.1  # a small image, for which the denoiser is nearly linear
    problem.y[1] *= 30
    physics = problem.physics()
    adjoint = deq.Implicit(deq.GMRES(rtol=1e-13))
    model = problem.model(DEQ=deq.Equilibrium(solver, adjoint))

    # The gradient depends on the solver only through the image.
    gradients = solver.rtol == 1e-13

    def solve(y: Tensor) -> tuple[Tensor, list[int], Tensor]:
        y = y.clone().requires_grad_(gradients)
        with torch.set_grad_enabled(gradients):
            x = model(y, physics)
        total = x.square().sum()
        grad = torch.autograd.grad(total, y)[0] if gradients else x.detach()
        return x.detach(), model.solution.iterations.tolist(), grad

    together, counts, gradient = solve(problem.y)
    for i in range(2):
        alone, count, grad = solve(problem.y[i : i + 1])
        scale = float(alone.abs().max())
        assert (together[i] - alone[0]).abs().max() <= 1e-12 * scale
        assert (gradient[i] - grad[0]).abs().max() <= 1e-12 * float(grad.abs().max())
        if not solver.accelerated:
            assert counts[i] == count[0]


def test_each_sample_stops_at_its_own_tolerance(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("GD")
    problem.y[0] = 0  # this sample starts at its solution
    model = problem.model(DEQ=deq.Equilibrium(deq.Anderson(rtol=1e-9)))
    x = model(problem.y, problem.physics())
    easy, hard = model.solution.iterations.tolist()
    assert easy == 1 < hard
    assert bool(model.solution.converged.all())
    assert not bool(x[0].any())


@pytest.mark.parametrize(("algorithm", "closed_form"), PROXIMAL_OPERATORS)
@pytest.mark.parametrize("adjoint", [deq.Implicit(), deq.JacobianFree(2)])
def test_nonfinite_sample_is_marked_and_adds_no_gradient(
    adjoint: deq.fixed_points.Adjoint,
    closed_form: bool,
    algorithm: str,
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem(algorithm, closed_form=closed_form)
    problem.filter.requires_grad_()
    leaves = [problem.denoisers[0].weight, problem.filter]
    model = problem.model(DEQ=deq.Equilibrium(deq.Anderson(rtol=1e-8), adjoint))
    clean = model(problem.y[1:], problem.physics())
    expected = torch.autograd.grad(clean.sum(), leaves)
    problem.y[0, 0, 1, 2] = torch.nan
    with pytest.warns(deq.ConvergenceWarning, match="NONFINITE"):
        x = model(problem.y, problem.physics())
    statuses = [status.name for status in model.solution.status]
    assert statuses == ["NONFINITE", "CONVERGED"]
    torch.testing.assert_close(x[1:], clean, rtol=1e-12, atol=1e-12)
    grads = torch.autograd.grad(x[1].sum(), leaves)
    for grad, right in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, right, rtol=1e-12, atol=1e-12)


def test_solve_without_metrics_evaluates_no_cost() -> None:
    class Counted(dinv.optim.Tikhonov):
        values = 0

        def fn(self, *args: Any, **kwargs: Any) -> Tensor:
            Counted.values += 1
            return super().fn(*args, **kwargs)

    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=Counted(),
        stepsize=0.5,
        DEQ=deq.ReTune(layers=2, restarts=3),
    )
    y = torch.ones(1, 1, 4, 4)
    physics = dinv.physics.Denoising()
    model(y, physics)
    assert Counted.values == 0
    model(y, physics, compute_metrics=True)
    assert Counted.values == 6


def test_solution_shares_no_memory_with_the_image(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem("PGD")
    model = problem.model(DEQ=deq.Equilibrium(deq.Broyden()))
    with torch.no_grad():
        x = model(problem.y, problem.physics())
    kept = model.solution.x.clone()
    x.mul_(255)
    assert torch.equal(model.solution.x, kept)
    assert model.solution.inverse_jacobian is None


def test_fixed_point_problem_is_the_problem_that_forward_solves(
    algorithm: str, make_problem: Callable[..., Any]
) -> None:
    problem = make_problem(algorithm)
    physics, y = problem.physics(), problem.y
    model = problem.model(DEQ=deq.Equilibrium(deq.Picard(max_iter=7, rtol=0.0)))
    step, state = model.fixed_point_problem(y, physics)
    with torch.no_grad():
        for _ in range(7):
            state = step(state)
        model(y, physics)
    ours = state if isinstance(state, tuple) else (state,)
    found = model.solution.x if isinstance(state, tuple) else (model.solution.x,)
    for a, b in zip(ours, found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


def test_fixed_point_problem_raises_without_DEQ() -> None:
    model = deq.optim.PGD(prior=dinv.optim.Tikhonov(), data_fidelity=dinv.optim.L2())
    physics = dinv.physics.Denoising()
    with pytest.raises(ValueError, match="DEQ=Equilibrium"):
        model.fixed_point_problem(torch.ones(1, 1, 2, 2), physics)
