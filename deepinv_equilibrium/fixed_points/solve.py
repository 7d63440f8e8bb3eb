"""The one entry: a step, a solver and an adjoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from .adjoints.adjoint import Adjoint
from .adjoints.implicit import Implicit
from .failures import OnFailure, check_on_failure, report_failure
from .solution import BackwardSlot, Solution
from .solvers.anderson import Anderson
from .solvers.fixed_point_solver import FixedPointSolver
from .state import State, StateLayout
from .step import PackedStep, Step

StateObserver: TypeAlias = Callable[[State, State], None]


def fixed_point(
    step: Step,
    x0: State,
    solver: FixedPointSolver = Anderson(),
    adjoint: Adjoint = Implicit(),
    on_failure: OnFailure = "warn",
    observer: StateObserver | None = None,
) -> Solution:
    r"""
    Find a fixed point :math:`x^* = f(x^*)` and give it a gradient.

    The solver iterates without recording. Where gradients are enabled, the adjoint then
    records what it needs (one evaluation of the step, as a rule) and the gradient of
    :attr:`Solution.x` reaches everything the step closes over: weights, parameters, the
    measurement, parameters of the physics. Each sample of the batch is solved on its
    own: it stops by its own residual, and its result does not depend on the others.

    :param Callable step: :math:`f`, from a state to a state of the same shapes; it must
        be deterministic and keep samples apart.
    :param torch.Tensor, tuple x0: initial state: a floating-point tensor, or a tuple of
        them, whose first axis is the batch.
    :param solver: finds the fixed point: :class:`Picard <deepinv_equilibrium.Picard>`,
        :class:`Anderson <deepinv_equilibrium.Anderson>`, :class:`Broyden
        <deepinv_equilibrium.Broyden>` or :class:`Safeguarded
        <deepinv_equilibrium.Safeguarded>`. Default: ``Anderson()``.
    :param adjoint: gives the gradient: :class:`Implicit
        <deepinv_equilibrium.Implicit>`, :class:`JacobianFree
        <deepinv_equilibrium.JacobianFree>`, :class:`Neumann
        <deepinv_equilibrium.Neumann>`, :class:`SHINE <deepinv_equilibrium.SHINE>` or
        :class:`Unrolled <deepinv_equilibrium.Unrolled>`. Default: ``Implicit()``.
    :param str on_failure: what to do where a sample does not converge, forward or
        backward: ``"warn"`` (default), ``"raise"`` or ``"ignore"``.
    :param Callable observer: called after every evaluation of the solve with the
        iterate and its value, e.g. for a progress bar.
    :return: the :class:`Solution <deepinv_equilibrium.Solution>`: :math:`f` of the last
        iterate (Picard) or of the best (accelerated solvers), and a report.
    :raises TypeError: if an argument is of the wrong kind.
    :raises ValueError: if the state, the value of the step or ``on_failure`` is not as
        described, or the adjoint cannot work with the solver.
    :raises ConvergenceError: if a sample fails and ``on_failure="raise"``.

    :Example:

    >>> import torch
    >>> import deepinv_equilibrium as deq
    >>> a = torch.tensor(3.0, requires_grad=True)
    >>> root = deq.fixed_point(lambda x: (x + a / x) / 2, torch.ones(1, 1))
    >>> root.x.sum().backward()
    >>> print(f"{root.x.item():.4f}, {a.grad.item():.4f}")
    1.7321, 0.2887
    """
    if not callable(step):
        raise TypeError(f"step must be callable, got {type(step).__name__}.")
    if not isinstance(solver, FixedPointSolver):
        raise TypeError(
            "solver must be a solver of fixed points (Picard, Anderson, Broyden, "
            f"Safeguarded), got {solver!r}."
        )
    if not isinstance(adjoint, Adjoint):
        raise TypeError(
            "adjoint must be an Adjoint (Implicit, JacobianFree, Neumann, SHINE, "
            f"Unrolled), got {adjoint!r}."
        )
    check_on_failure(on_failure)
    adjoint.require(solver)
    layout = StateLayout.of(x0)
    packed = PackedStep(step, layout)

    def observe(x: Tensor, value: Tensor) -> None:
        assert observer is not None
        observer(layout.unpack(x), layout.unpack(value))

    watch = None if observer is None else observe
    slot = BackwardSlot()
    extra = 0
    if torch.is_grad_enabled():
        tracked = adjoint.track(packed, layout.pack(x0), solver, on_failure, watch)
        monitor, x, output = tracked.monitor, tracked.x, tracked.output
        slot, extra = tracked.slot, tracked.extra_evaluations
    else:
        monitor = solver.run(packed, layout.pack(x0), observer=watch)
        monitor.finish()
        # A copy: a step may return what it closes over, or x0 may come back.
        x, output = monitor.value.clone(), monitor.output
    report = monitor.report(extra)
    solution = Solution(
        **vars(report),
        x=layout.unpack(x),
        output=output,
        inverse_jacobian=monitor.inverse_jacobian,
        _backward=slot,
    )
    report_failure(solution, on_failure, "The fixed-point solve")
    return solution
