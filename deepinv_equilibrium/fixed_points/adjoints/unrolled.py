"""Backpropagation through the whole run."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..failures import OnFailure
from ..solution import BackwardSlot
from ..solvers.fixed_point_solver import FixedPointSolver, Observer
from ..solvers.monitor import Monitor
from ..step import PackedStep
from .adjoint import Adjoint, Tracked
from .exclusion import annihilate_zero_cotangents, finite_saved_tensors
from .gate import Recording, Transform, gate, identity


@dataclass(frozen=True)
class Unrolled(Adjoint):
    r"""
    Backpropagation through every iteration of a :class:`Picard
    <deepinv_equilibrium.Picard>` run, to the initial state too: an unrolled network.
    Exact for what was computed, second derivatives included, at a memory that grows
    with the iterations. It reports no backward: none is solved for.
    """

    def require(self, solver: FixedPointSolver) -> None:
        """Accelerated solvers choose their iterates in ways that are not recorded."""
        if solver.accelerated:
            raise ValueError(
                "Unrolled records a Picard run, and cannot record "
                f"{type(solver).__name__}; use solver=Picard(...), or another adjoint."
            )

    def transform(
        self, monitor: Monitor, slot: BackwardSlot, on_failure: OnFailure
    ) -> Transform:
        """The identity: autograd has recorded everything."""
        return identity

    def track(
        self,
        step: PackedStep,
        x0: Tensor,
        solver: FixedPointSolver,
        on_failure: OnFailure,
        observer: Observer | None,
    ) -> Tracked:
        """Run with gradients; once more if samples must be kept out of them."""
        monitor = solver.run(step, x0, observer=observer)
        monitor.finish()
        made = step.evaluations
        x, output, excluded = monitor.value, monitor.output, monitor.excluded
        if bool(excluded.any()):
            with finite_saved_tensors():
                monitor = solver.run(step, x0)
            monitor.finish()
            recording = Recording(monitor.value, monitor.output, x0, excluded)
            annihilate_zero_cotangents((recording.value, recording.output))
            x, output = gate(
                identity, monitor.value.detach(), monitor.output, recording
            )
        return Tracked(monitor, x, output, step.evaluations - made, BackwardSlot())
