"""This package's methods for the problem."""

from __future__ import annotations

import deepinv as dinv
from torch import Tensor

import deepinv_equilibrium as deq
from deepinv_equilibrium.fixed_points import Adjoint, FixedPointSolver, LinearSolver

from .problem import STEPSIZE, Problem
from .reconstruct import Reconstruct


def forward_methods(
    problem: Problem, rtol: float, max_iter: int
) -> dict[str, Reconstruct]:
    """Return every solver for a relative residual."""
    solvers = (
        deq.Picard(rtol=rtol, max_iter=max_iter),
        deq.Anderson(rtol=rtol, max_iter=max_iter),
        deq.Broyden(rtol=rtol, max_iter=max_iter),
        deq.Inertial(rtol=rtol, max_iter=max_iter),
    )
    return {
        type(solver).__name__: equilibrium(problem, solver, deq.Implicit())
        for solver in solvers
    }


def backward_method(problem: Problem, name: str, products: int) -> Reconstruct:
    """Return one evaluation with an adjoint solve of a given budget."""
    solvers: dict[str, LinearSolver | FixedPointSolver] = {
        "GMRES": deq.GMRES(max_iter=products, rtol=0.0, restart=60),
        "Anderson": deq.Anderson(max_iter=products, rtol=0.0),
        "Picard": deq.Picard(max_iter=products, rtol=0.0),
    }
    once = deq.Picard(max_iter=1, rtol=0.0)
    return equilibrium(problem, once, deq.Implicit(solvers[name]))


BACKWARD = ("GMRES", "Anderson", "Picard")


def implicit(problem: Problem) -> Reconstruct:
    """Return the defaults: Anderson forward, GMRES backward."""
    return equilibrium(problem, deq.Anderson(), deq.Implicit())


def jacobian_free(problem: Problem, evaluations: int) -> Reconstruct:
    """Return a fixed number of evaluations, of which the last is recorded."""
    solver = deq.Picard(max_iter=evaluations, rtol=0.0)
    return equilibrium(problem, solver, deq.JacobianFree())


def retune(problem: Problem, layers: int, restarts: int) -> Reconstruct:
    """Return ReTune."""
    return _model(problem, deq.ReTune(layers, restarts, on_failure="ignore"))


def inference(problem: Problem, steps: int) -> Reconstruct:
    """Return a fixed number of steps."""
    return jacobian_free(problem, steps)


def equilibrium(
    problem: Problem, solver: FixedPointSolver, adjoint: Adjoint
) -> Reconstruct:
    """Return a model of this package without warnings; the benchmark reports."""
    return _model(problem, deq.Equilibrium(solver, adjoint, on_failure="ignore"))


def _model(problem: Problem, config: deq.Equilibrium) -> Reconstruct:
    model = deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(problem.denoiser),
        stepsize=STEPSIZE,
        trainable_params=[],
        DEQ=config,
    )

    def reconstruct(y: Tensor, init: Tensor | None = None) -> Tensor:
        return model(y, problem.physics, init=init)

    return reconstruct
