"""Backpropagation through the whole run."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..failures import FailurePolicy
from ..solution import BackwardSlot, Report
from ..solvers.fixed_point_solver import FixedPointSolver, Observer
from ..step import PackedStep
from .adjoint import Adjoint, Tracked
from .exclusion import annihilate_zero_cotangents, finite_saved_tensors
from .recording import Cotangent, Recording


@dataclass(frozen=True)
class Unrolled(Adjoint):
    r"""
    Backpropagation through every iteration of a solver that is not accelerated, such as
    :class:`Picard <deepinv_equilibrium.Picard>`: an unrolled network.

    The gradient is exact for the computed iterate, second derivatives included, and
    reaches the initial state. Its memory grows with the number of iterations. The
    backward solves no system, so that ``Solution.backward`` is ``None``.
    """

    def require(self, solver: FixedPointSolver) -> None:
        """Raise for an accelerated solver, whose choice of iterates is not recorded."""
        if solver.accelerated:
            raise ValueError(
                "Unrolled records a Picard run, and cannot record "
                f"{type(solver).__name__}; use solver=Picard(...), or another adjoint."
            )

    def transform(
        self, recording: Recording, cotangent: Cotangent
    ) -> tuple[Tensor, Report | None]:
        """Return the cotangent unchanged, as autograd has recorded every iteration."""
        return cotangent.state, None

    def track(
        self,
        step: PackedStep,
        x0: Tensor,
        solver: FixedPointSolver,
        on_failure: FailurePolicy,
        observer: Observer | None,
    ) -> Tracked:
        """Solve with gradients, and once more if samples must not add to them."""
        monitor = solver.run(step, x0, observer=observer)
        monitor.excludes_failures = on_failure == "skip"
        monitor.finish()
        made = step.evaluations
        slot = BackwardSlot()
        x, output, excluded = monitor.value, monitor.output, monitor.excluded
        if monitor.excludes_some():
            with finite_saved_tensors():
                monitor = solver.run(step, x0)
            monitor.finish()
            recording = Recording(monitor.value, monitor.output, x0, excluded)
            annihilate_zero_cotangents((recording.value, recording.output))
            x, output = self._attach(
                monitor.value.detach(),
                monitor.output,
                recording,
                None,
                slot,
                on_failure,
            )
        return Tracked(monitor, x, output, step.evaluations - made, slot)
