"""torchdeq's methods for the problem."""

from __future__ import annotations

from types import ModuleType

from torch import Tensor

from .problem import Problem
from .reconstruct import Reconstruct

SOLVERS = ("fixed_point_iter", "anderson", "broyden")
BACKWARD = ("anderson", "broyden", "fixed_point_iter")


def installed() -> ModuleType:
    r"""
    :return: torchdeq.
    :raises ImportError: if it is not installed; this package does not depend on it.
    """
    try:
        import torchdeq
    except ImportError as error:
        raise ImportError(
            "the benchmark compares with torchdeq 0.1, which is no dependency: run "
            "'pip install torchdeq==0.1.0', or leave it out with --without-torchdeq."
        ) from error
    return torchdeq


def forward_methods(
    problem: Problem, rtol: float, max_iter: int
) -> dict[str, Reconstruct]:
    """Return every solver with its defaults for a relative residual."""
    return {
        name: _model(
            problem,
            f_solver=name,
            f_max_iter=max_iter,
            f_tol=rtol,
            f_stop_mode="rel",
        )
        for name in SOLVERS
    }


def backward_method(problem: Problem, name: str, products: int) -> Reconstruct:
    """Return one evaluation with an adjoint solve of a given budget."""
    return _model(
        problem, f_max_iter=1, ift=True, b_solver=name, b_max_iter=products, b_tol=0.0
    )


def implicit(problem: Problem) -> Reconstruct:
    """Return implicit differentiation with the solver that works in both passes."""
    return _model(
        problem,
        f_solver="broyden",
        f_max_iter=100,
        f_tol=1e-4,
        f_stop_mode="rel",
        ift=True,
        b_solver="broyden",
        b_max_iter=50,
        b_tol=1e-3,
        b_stop_mode="rel",
    )


def jacobian_free(problem: Problem, evaluations: int) -> Reconstruct:
    """Return a fixed number of evaluations, of which ``grad=1`` adds the last."""
    return _model(problem, f_max_iter=evaluations - 1, f_tol=0.0, grad=1)


def phantom(problem: Problem, layers: int, restarts: int) -> Reconstruct:
    """Return the model that records only the last ``layers`` evaluations."""
    untracked = layers * (restarts - 1)
    return _model(problem, f_max_iter=untracked, f_tol=0.0, grad=layers)


def inference(problem: Problem, steps: int) -> Reconstruct:
    """Return a model with a number of steps."""
    return _model(problem, training=False, f_max_iter=steps, f_tol=0.0)


def _model(
    problem: Problem, *, training: bool = True, **options: object
) -> Reconstruct:
    solver = installed().get_deq(**options).train(training)

    def reconstruct(y: Tensor, init: Tensor | None = None) -> Tensor:
        start = problem.physics.A_adjoint(y).detach() if init is None else init
        found, _ = solver(lambda x: problem.step(x, y), start)
        return found[-1]

    return reconstruct
