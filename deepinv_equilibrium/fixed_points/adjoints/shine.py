"""SHINE, which reuses the inverse Jacobian that the forward solve has estimated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..argument_checks import require_count
from ..solution import Report
from ..solvers.gmres import GMRES
from ..solvers.linear_solver import LinearMonitor
from .adjoint import Adjoint
from .recording import Cotangent, Recording


@dataclass(frozen=True)
class SHINE(Adjoint):
    r"""
    The implicit gradient with :math:`(I - J)^{-1}` replaced by the estimate :math:`H`
    of the forward solver, such as Broyden's method :footcite:p:`ramzi2022shine`,

    .. math::

        v = H^\top \frac{\partial \ell}{\partial x^*}.

    Then ``refine`` iterations of GMRES reduce the residual of the adjoint system. The
    residual of :math:`v` costs one product and is reported. If it is larger than that
    of :math:`v = 0`, or not finite, the sample uses the gradient of
    :class:`JacobianFree <deepinv_equilibrium.JacobianFree>`,
    :math:`v = \partial \ell / \partial x^*`. The paper compares norms instead.

    :param int refine: number of GMRES iterations. Default: 0.
    :raises ValueError: if ``refine`` is negative, or, at the start of a solve, if the
        forward solver builds no estimate of the inverse Jacobian.
    """

    refine: int = 0

    reads_inverse_jacobian: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count("refine", self.refine, 0)

    def transform(
        self, recording: Recording, cotangent: Cotangent
    ) -> tuple[Tensor, Report | None]:
        """Apply the estimate, check the residual, and refine."""
        inverse = recording.inverse_jacobian
        assert inverse is not None  # see Adjoint.require
        rhs = recording.right_side(cotangent)
        operator = recording.adjoint_operator()
        v = recording.mask(inverse.adjoint(rhs))
        residual = rhs - operator.apply(v)
        bad = ~(residual.norm(dim=1) <= rhs.norm(dim=1))
        bad = operator.processes.agree(bad)
        if bool(bad.any()):
            v = torch.where(bad[:, None], rhs, v)
            residual = rhs - operator.apply(v)
        solver = GMRES(max_iter=max(self.refine, 1), rtol=0.0)
        monitor = LinearMonitor(solver, rhs, operator)
        monitor.count(1 + bad.long())
        monitor.observe(residual.norm(dim=1).double())
        report = monitor.report()
        if self.refine:
            correction, refined = solver.run(operator, residual)
            v = v + correction
            scale = torch.where(monitor.rhs_norm > 0, monitor.rhs_norm, 1.0)
            report = replace(
                refined,
                residual=refined.absolute_residual / scale,
                evaluations=refined.evaluations + report.evaluations,
                history=refined.absolute_history / scale,
            )
        return v, report
