"""The implicit gradient."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..failures import OnFailure, report_failure
from ..solution import BackwardSlot, Report
from ..solvers.fixed_point_solver import FixedPointSolver
from ..solvers.gmres import GMRES
from ..solvers.linear_solver import LinearOperator, LinearSolver
from ..solvers.monitor import Monitor
from ..state import State, StateLayout
from ..step import PackedStep
from .adjoint import Adjoint
from .gate import Cotangent, Recording, Transform


@dataclass(frozen=True)
class Implicit(Adjoint):
    r"""
    The gradient of the implicit function theorem :footcite:p:`bai2019deep`,

    .. math::

        \frac{\partial \ell}{\partial \theta}
        = v^\top \partial_\theta f(x^*), \qquad
        (I - J^\top)\, v = \frac{\partial \ell}{\partial x^*}, \qquad
        J = \partial_x f(x^*).

    One evaluation of the step is recorded; each product with :math:`J^\top` is a
    vector-Jacobian product with it. The relative residual of the system bounds the
    relative error of its right side; where it is not met the backward warns or raises.
    The gradient of the gradient raises ``NotImplementedError``.

    :param solver: solver of the adjoint system: a linear one (``GMRES``, ``CG`` for
        symmetric :math:`J`, ``CGNE``) or one for fixed points, which iterates
        :math:`v \leftarrow J^\top v + \partial \ell / \partial x^*`. Default:
        ``GMRES(rtol=1e-3)``.
    :raises TypeError: if ``solver`` is neither.
    """

    solver: LinearSolver | FixedPointSolver = field(
        default_factory=lambda: GMRES(rtol=1e-3)
    )

    def __post_init__(self) -> None:
        if not isinstance(self.solver, LinearSolver | FixedPointSolver):
            raise TypeError(
                "solver must be a linear solver (GMRES, CG, CGNE) or a fixed-point "
                f"solver (Picard, Anderson, Broyden), got {self.solver!r}."
            )

    def transform(
        self, monitor: Monitor, slot: BackwardSlot, on_failure: OnFailure
    ) -> Transform:
        """The solution of the adjoint system."""

        def solve(recording: Recording, cotangent: Cotangent) -> Tensor:
            rhs = right_side(recording, cotangent)
            if isinstance(self.solver, LinearSolver):
                v, report = self.solver.run(adjoint_operator(recording), rhs)
            else:
                v, report = iterate(self.solver, recording, rhs, rhs)
            slot.report = report
            report_failure(report, on_failure, "The adjoint solve of Implicit")
            return v

        return solve


def right_side(recording: Recording, cotangent: Cotangent) -> Tensor:
    """What the loss asks of the state, through the output too."""
    if recording.output is None or cotangent.output is None:
        return cotangent.state
    through_output = replace(cotangent, state=torch.zeros_like(cotangent.state))
    return cotangent.state + recording.vjp(through_output)


def adjoint_operator(recording: Recording) -> LinearOperator:
    r""":math:`I - J^\top` and its transpose."""
    return LinearOperator(
        lambda v: v - recording.vjp(Cotangent(v, None)),
        lambda v: v - recording.jvp(v),
    )


def iterate(
    solver: FixedPointSolver, recording: Recording, rhs: Tensor, start: Tensor
) -> tuple[Tensor, Report]:
    r"""
    Solve :math:`v = J^\top v + b` as a fixed-point equation.

    :param FixedPointSolver solver: the solver.
    :param Recording recording: gives the products with :math:`J^\top`.
    :param torch.Tensor rhs: :math:`b`, of shape :math:`(B, n)`.
    :param torch.Tensor start: where to start, of the same shape.
    :return: :math:`v`, and the report.
    """

    def step(v: State) -> State:
        assert isinstance(v, Tensor)
        return recording.vjp(Cotangent(v, None)) + rhs

    monitor = solver.run(PackedStep(step, StateLayout.of(rhs)), start)
    monitor.finish()
    return monitor.value, monitor.report()
