"""Conjugate gradients on the normal equations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..solution import Report, Status
from .linear_solver import LinearMonitor, LinearOperator, LinearSolver, dot


@dataclass(frozen=True, kw_only=True)
class CGNE(LinearSolver):
    r"""
    Conjugate gradients on the normal equations of the second kind (Craig's method)
    :footcite:p:`saad2003iterative`,

    .. math::

        A A^\top w = b, \qquad v = A^\top w,

    for any invertible :math:`A`. An iteration costs two products, one with :math:`A`
    and one with :math:`A^\top`. In the backward, the product with :math:`A^\top`
    differentiates a vector-Jacobian product, so that every operation of the step must
    have a second derivative. The error :math:`\|v_k - v\|` is the smallest in the
    Krylov space and never grows; the residual can grow. :class:`CGNR
    <deepinv_equilibrium.CGNR>` minimises the residual instead. The rate depends on the
    squared condition number of :math:`A`: CGNE usually needs more products than
    :class:`GMRES <deepinv_equilibrium.GMRES>`, and less memory.

    :param int max_iter: largest number of iterations. Default: 100.
    :param float rtol: tolerance on :math:`\|b - A v\| / \|b\|`. Default: ``1e-4``.
    :param float atol: tolerance on :math:`\|b - A v\|`. Default: 0.
    :raises ValueError: if an argument is out of its range.
    """

    def run(self, operator: LinearOperator, rhs: Tensor) -> tuple[Tensor, Report]:
        """Solve the systems, see :class:`LinearSolver`."""
        monitor = LinearMonitor(self, rhs, operator)
        v, r, p = torch.zeros_like(rhs), rhs, torch.zeros_like(rhs)
        square = dot(r, r)
        beta = torch.zeros_like(square)
        for _ in range(self.max_iter):
            if not monitor.is_running():
                break
            masked = torch.where(monitor.active[:, None], r, 0.0)
            p = operator.adjoint(masked) + beta.to(rhs.dtype) * p
            size = dot(p, p)
            monitor.stop(~torch.isfinite(size)[:, 0], Status.NONFINITE)
            monitor.stop(size[:, 0] == 0, Status.DIVERGED)
            p = torch.where(monitor.active[:, None], p, 0.0)
            product = operator.apply(p)
            monitor.count(2)
            bad = ~torch.isfinite(product).all(dim=1)
            monitor.stop(bad, Status.NONFINITE)
            where = monitor.active[:, None]
            length = torch.where(where, square / size, 0.0).to(rhs.dtype)
            v = v + length * p
            r = torch.where(where, r - length * product, r)
            previous, square = square, dot(r, r)
            beta = torch.where(where, square / previous, 0.0)
            residual = square.sqrt()[:, 0]
            monitor.observe(residual)
            if self.has_tolerance:
                # It is below rounding: further iterations would run away from the
                # solution while the recursive residual still falls.
                rounding = monitor.floor * monitor.rhs_norm
                monitor.stop(residual <= rounding, Status.MAX_ITER)
        return v, monitor.report()
