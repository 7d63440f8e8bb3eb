"""SHINE: the inverse Jacobian that the forward solve has already estimated."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..argument_checks import require_count
from ..failures import OnFailure, report_failure
from ..solution import BackwardSlot
from ..solvers.fixed_point_solver import FixedPointSolver
from ..solvers.gmres import GMRES
from ..solvers.linear_solver import LinearMonitor
from ..solvers.monitor import Monitor
from .adjoint import Adjoint
from .gate import Cotangent, Recording, Transform
from .implicit import adjoint_operator, right_side


@dataclass(frozen=True)
class SHINE(Adjoint):
    r"""
    The implicit gradient with :math:`(I - J)^{-1}` replaced by the estimate :math:`H`
    that Broyden's method has built in the forward solve :footcite:p:`ramzi2022shine`,

    .. math::

        v = H^\top \frac{\partial \ell}{\partial x^*},

    then improved by ``refine`` iterations of GMRES on what is left of the system. The
    residual of :math:`v` costs one product and is reported. Where it is larger than
    that of :math:`v = 0`, or not finite, the sample falls back to
    :class:`JacobianFree <deepinv_equilibrium.JacobianFree>`,
    :math:`v = \partial \ell / \partial x^*` (the paper compares norms instead).

    :param int refine: GMRES iterations after it. Default: 0.
    :raises ValueError: if ``refine`` is negative; at use, if the forward solver builds
        no such estimate.
    """

    refine: int = 0

    def __post_init__(self) -> None:
        require_count("refine", self.refine, 0)

    def require(self, solver: FixedPointSolver) -> None:
        """Only Broyden's method fills ``Solution.inverse_jacobian``."""
        if not solver.fills_inverse_jacobian:
            raise ValueError(
                "SHINE reads Solution.inverse_jacobian, which "
                f"{type(solver).__name__} does not fill; use solver=Broyden(), or "
                "another adjoint."
            )

    def transform(
        self, monitor: Monitor, slot: BackwardSlot, on_failure: OnFailure
    ) -> Transform:
        """The estimate, checked and refined."""
        inverse = monitor.inverse_jacobian
        assert inverse is not None

        def estimate(recording: Recording, cotangent: Cotangent) -> Tensor:
            rhs = right_side(recording, cotangent)
            operator = adjoint_operator(recording)
            v = recording.mask(inverse.adjoint(rhs))
            left = rhs - operator.apply(v)
            bad = ~(left.norm(dim=1) <= rhs.norm(dim=1))
            if bool(bad.any()):
                v = torch.where(bad[:, None], rhs, v)
                left = rhs - operator.apply(v)
            solver = GMRES(max_iter=max(self.refine, 1), rtol=0.0)
            book = LinearMonitor(solver, rhs)
            book.count(1 + bad.long())
            book.observe(left.norm(dim=1).double())
            report = book.report()
            if self.refine:
                correction, refined = solver.run(operator, left)
                v = v + correction
                scale = torch.where(book.rhs_norm > 0, book.rhs_norm, 1.0)
                report = replace(
                    refined,
                    residual=refined.absolute_residual / scale,
                    evaluations=refined.evaluations + report.evaluations,
                    history=refined.absolute_history / scale,
                )
            slot.report = report
            report_failure(report, on_failure, "The adjoint estimate of SHINE")
            return v

        return estimate
