"""Contracts about the solutions of fixed-point solvers."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ...fixed_points import JacobianFree, State, fixed_point
from ..contracts import NotApplicableError, require, require_close
from ..frozen_values import require_frozen_value
from ..random_problems import F64, KINDS, RandomSteps, as_tensor, normal
from .solver_case import SolverCase, shown, solve, status_names


def is_a_frozen_value(case: SolverCase) -> None:
    """The solver is a frozen dataclass without tensors, with a hash and a repr."""
    require_frozen_value(case.component)


def finds_fixed_points(case: SolverCase) -> None:
    """Affine contractions are solved to the tolerance, for states of every kind."""
    for kind in KINDS:
        for dtype, rtol in ((F64, 1e-10), (torch.float32, 1e-5)):
            steps = RandomSteps.draw(case.rates, kind).to(dtype)
            solution = solve(steps, steps.start, case.solver(rtol))
            where = f"on states of kind {kind!r} in {dtype}"
            require(
                solution.converged.all(),
                f"{where} the statuses are {status_names(solution)}, not CONVERGED",
            )
            require(
                (solution.residual <= rtol).all(),
                f"{where} the residuals {shown(solution.residual)} exceed "
                f"rtol = {rtol:g}",
            )
            found = steps.layout.pack(solution.x).double()
            exact = steps.solution
            error = torch.linalg.vector_norm(found - exact, dim=1)
            size = torch.linalg.vector_norm(exact, dim=1)
            first = torch.linalg.vector_norm(steps.offsets.double(), dim=1)
            rates = torch.tensor(case.rates, dtype=F64)
            rounding = 100 * torch.finfo(dtype).eps
            allowed = (rtol + rounding) * torch.maximum(size, first) / (1 - rates)
            require(
                (error <= 2 * allowed).all(),
                f"{where} the distances to the fixed points are {shown(error)}, where "
                f"the tolerance allows {shown(allowed)}",
            )


def reports_true_residuals(case: SolverCase) -> None:
    """The history and the residuals agree with the evaluations of the step, and ``x``
    is the value of one of them."""
    steps = RandomSteps.draw(case.rates, affine=False)
    seen: list[tuple[Tensor, Tensor]] = []

    def observe(x: State, value: State) -> None:
        seen.append((as_tensor(x).clone(), as_tensor(value).clone()))

    solution = solve(steps, steps.start, case.solver(1e-9), observe)
    require(
        len(seen) == steps.evaluations,
        f"the observer is shown {len(seen)} of {steps.evaluations} evaluations",
    )
    x = as_tensor(solution.x)
    for i, count in enumerate(solution.iterations.tolist()):
        gaps = torch.stack([(value - at)[i].norm() for at, value in seen[:count]])
        history = solution.absolute_history[:count, i]
        require_close(f"absolute_history of sample {i}", history, gaps, 1e-9)
        matches = [
            float(gap)
            for gap, (_, value) in zip(gaps, seen, strict=False)
            if torch.equal(value[i], x[i])
        ]
        require(matches, f"x of sample {i} is the value of no evaluation")
        reported = float(solution.absolute_residual[i])
        require(
            any(math.isclose(reported, gap, rel_tol=1e-9) for gap in matches),
            f"absolute_residual of sample {i} is {reported:.3e}, and that of x is "
            f"{matches[0]:.3e}",
        )


def scales_with_the_problem(case: SolverCase) -> None:
    """Scaling the problem scales the solution and changes nothing else."""
    steps = RandomSteps.draw(case.rates)
    base = solve(steps, steps.start, case.solver(1e-8))
    for factor in (2.0**-20, 2.0**20):  # powers of two round alike
        scaled = steps.scaled(factor)
        other = solve(scaled, scaled.start, case.solver(1e-8))
        require(
            torch.equal(other.iterations, base.iterations),
            f"a problem {factor:.0e} times as large takes {other.iterations.tolist()} "
            f"iterations instead of {base.iterations.tolist()}",
        )
        found = as_tensor(other.x) / factor
        require_close("x of the scaled problem", found, as_tensor(base.x), 1e-9)


def changes_no_input(case: SolverCase) -> None:
    """The initial state is not changed, and recording gradients changes no value."""
    steps = RandomSteps.draw(case.rates)
    start = normal(*steps.offsets.shape, seed=3)
    kept = start.clone()
    untracked = solve(steps, start, case.solver(1e-6))
    require(torch.equal(start, kept), "the solve changed the initial state")
    recorded = replace(steps, offsets=steps.offsets.clone().requires_grad_())
    tracked = fixed_point(
        recorded, start, case.solver(1e-6), JacobianFree(), on_failure="ignore"
    )
    x = as_tensor(tracked.x)
    require_close("x of a recorded solve", x, as_tensor(untracked.x), 1e-12)
    require(x.requires_grad, "x of a recorded solve carries no gradient")


def fills_the_inverse_jacobian(case: SolverCase) -> None:
    """``inverse_jacobian`` is filled by the solvers that say so, and its two products
    are adjoint to each other."""
    steps = RandomSteps.draw(case.rates)
    solver = case.solver(1e-10)
    inverse = solve(steps, steps.start, solver).inverse_jacobian
    if not solver.fills_inverse_jacobian:
        require(inverse is None, "inverse_jacobian is filled although it says not")
        raise NotApplicableError("the solver builds no estimate")
    require(inverse is not None, "inverse_jacobian is empty although it says filled")
    assert inverse is not None
    u, v = (normal(*steps.offsets.shape, seed=seed) for seed in (4, 5))
    require_close(
        "<u, H v> of inverse_jacobian",
        (u * inverse.apply(v)).sum(dim=1),
        (inverse.adjoint(u) * v).sum(dim=1),
        1e-9,
    )
