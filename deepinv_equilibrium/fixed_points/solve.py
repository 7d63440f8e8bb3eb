"""The entry point: find a fixed point of a step, and give it a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from .adjoints.adjoint import Adjoint
from .adjoints.implicit import Implicit
from .adjoints.unrolled import Unrolled
from .argument_checks import require_instance
from .autocast import Autocast, widen, widen_layout
from .caller_warnings import warn_caller
from .constant_weights import constant_weights
from .failures import (
    FAILURE_POLICIES,
    FailurePolicy,
    check_on_failure,
    report_failure,
    report_late_failures,
)
from .processes import ALONE, Processes
from .solution import BackwardSlot, Solution
from .solvers.anderson import Anderson
from .solvers.fixed_point_solver import FixedPointSolver
from .solvers.picard import Picard
from .state import State, StateLayout
from .step import OfSamples, PackedStep, Step
from .transforms import refuse_transforms

StateObserver: TypeAlias = Callable[[State, State], None]
"""A function of an iterate and its value, called after every evaluation."""


def fixed_point(
    step: Step,
    x0: State,
    solver: FixedPointSolver = Anderson(),
    adjoint: Adjoint = Implicit(),
    on_failure: FailurePolicy = "warn",
    observer: StateObserver | None = None,
    processes: Processes = ALONE,
    of_samples: OfSamples | None = None,
) -> Solution:
    r"""
    Find a fixed point :math:`x^* = f(x^*)` and give it a gradient.

    The solver iterates without recording a graph. If gradients are enabled, the adjoint
    then records what it needs, which for most adjoints is one evaluation of the step.
    The gradient of :attr:`Solution.x` reaches everything that the step closes over:
    weights, parameters, the measurement and parameters of the physics. Each sample of
    the batch stops when its own residual meets the tolerance, and its result does not
    depend on the other samples.

    Under ``torch.autocast`` the step is evaluated in half precision. All else has the
    precision of the state, or float32 if ``x0`` has half precision. A sample also
    converges, with a warning, if its residual stops falling at the noise of the step,
    see :class:`Solution <deepinv_equilibrium.Solution>`.

    :param Callable step: :math:`f`, from a state to a state of the same shapes. It must
        be deterministic and must not couple samples.
    :param torch.Tensor, tuple x0: initial state: a floating-point or complex tensor, or
        a tuple of such tensors, whose first axis is the batch.
    :param FixedPointSolver solver: finds the fixed point, see
        :doc:`/user_guide/solvers`. Default: ``Anderson()``.
    :param Adjoint adjoint: gives the fixed point its gradient, see
        :doc:`/user_guide/adjoints`. Default: ``Implicit()``.
    :param str on_failure: what to do if a sample does not converge, in the forward or
        the backward pass: ``"warn"`` (default), ``"raise"``, ``"ignore"``, or
        ``"skip"``: with a warning, the sample adds nothing to any gradient.
    :param Callable observer: called with the iterate and its value after every
        evaluation of the solve, for example by a progress bar. Default: ``None``.
    :param Processes processes: the processes that evaluate the step together, see
        :doc:`/user_guide/several_processes`. Default: this process alone.
    :param Callable of_samples: takes the numbers of some samples of the batch, a tensor
        of integers, and returns the step for them, or ``None``. The samples that have
        stopped then leave the batch. Default: ``None``, the step is evaluated for the
        whole batch until the last sample stops.
    :return: (Solution) the fixed point and the report of the solve, see
        :class:`Solution <deepinv_equilibrium.Solution>`.
    :raises TypeError: if ``step``, ``x0``, ``solver`` or ``adjoint`` has the wrong
        type.
    :raises ValueError: if ``x0`` or a value of the step is not such a state, if
        ``on_failure`` is unknown, or if the adjoint cannot work with the solver.
    :raises RuntimeError: in a transform of ``torch.func`` or in forward mode, see
        :doc:`/user_guide/adjoints`.
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
    require_instance("solver", solver, FixedPointSolver)
    require_instance("adjoint", adjoint, Adjoint)
    check_on_failure(on_failure, FAILURE_POLICIES)
    report_late_failures()
    adjoint.require(solver)
    refuse_transforms("The fixed-point solve", isinstance(adjoint, Unrolled))
    with constant_weights():
        return _fixed_point(
            step, x0, solver, adjoint, on_failure, observer, processes, of_samples
        )


def _fixed_point(
    step: Step,
    x0: State,
    solver: FixedPointSolver,
    adjoint: Adjoint,
    on_failure: FailurePolicy,
    observer: StateObserver | None,
    processes: Processes,
    of_samples: OfSamples | None,
) -> Solution:
    layout = StateLayout.of(x0)
    start = layout.pack(x0)
    autocast = Autocast.active(start.device)
    if autocast is None:
        packed = PackedStep(step, layout, None, processes, of_samples)
        solution = _solve(packed, start, solver, adjoint, on_failure, observer)
    else:
        layout = widen_layout(layout)
        packed = PackedStep(step, layout, autocast, processes, of_samples)
        with autocast.suspended():
            solution = _solve(
                packed, widen(start), solver, adjoint, on_failure, observer
            )
        if on_failure != "ignore":
            _warn_of_noise(solution, solver, autocast)
    report_failure(solution, on_failure, "The fixed-point solve")
    return solution


def _warn_of_noise(
    solution: Solution, solver: FixedPointSolver, autocast: Autocast
) -> None:
    """Warn if samples converged above the tolerance, at the noise of autocast."""
    above = (solution.residual > solver.rtol) & (
        solution.absolute_residual > solver.atol
    )
    if bool((above.cpu() & solution.converged).any()):
        dtype = str(autocast.dtype).removeprefix("torch.")
        warn_caller(
            f"rtol={solver.rtol:g} and atol={solver.atol:g} are below the noise of the "
            f"step under {dtype} autocast: samples count as converged where their "
            "residual stops falling at this noise, Solution.noise. Raise rtol, or call "
            "the model without autocast where the accuracy matters."
        )


def _solve(
    packed: PackedStep,
    start: Tensor,
    solver: FixedPointSolver,
    adjoint: Adjoint,
    on_failure: FailurePolicy,
    observer: StateObserver | None,
) -> Solution:
    layout = packed.layout

    def observe(x: Tensor, value: Tensor) -> None:
        assert observer is not None
        observer(layout.unpack(x), layout.unpack(value))

    watch = None if observer is None else observe
    slot = BackwardSlot()
    extra = 0
    if torch.is_grad_enabled():
        tracked = adjoint.track(packed, start, solver, on_failure, watch)
        monitor, x, output = tracked.monitor, tracked.x, tracked.output
        slot, extra = tracked.slot, tracked.extra_evaluations
    else:
        monitor = solver.run(packed, start, observer=watch)
        monitor.finish()
        # Copy: the value may be a tensor that the step closes over, or x0 itself.
        x, output = monitor.value.clone(), monitor.output
    report = monitor.report(extra)
    return Solution(
        **vars(report),
        x=layout.unpack(x),
        output=output,
        inverse_jacobian=monitor.inverse_jacobian,
        _backward=slot,
    )


def attach_gradient(
    step: Step,
    x: State,
    adjoint: Adjoint = Implicit(),
    on_failure: FailurePolicy = "warn",
) -> Solution:
    r"""
    Give a fixed point that was found elsewhere its gradient.

    The step is evaluated once, at ``x``, and the adjoint records this evaluation.

    :param Callable step: :math:`f`, as for :func:`fixed_point`.
    :param torch.Tensor, tuple x: the fixed point, or the last iterate before it.
    :param Adjoint adjoint: gives the value its gradient. Default: ``Implicit()``.
    :param str on_failure: what to do if the backward pass fails: ``"warn"`` (default),
        ``"raise"``, ``"ignore"`` or ``"skip"``.
    :return: (Solution) :math:`f(x)` with its gradient, with the status ``COMPLETED``.
    """
    return fixed_point(step, x, Picard(max_iter=1, rtol=0.0), adjoint, on_failure)
