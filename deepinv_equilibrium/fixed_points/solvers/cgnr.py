"""Conjugate gradients on the normal equations of least squares."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..solution import Report, Status
from .linear_solver import LinearMonitor, LinearOperator, LinearSolver, dot


@dataclass(frozen=True, kw_only=True)
class CGNR(LinearSolver):
    r"""
    Conjugate gradients on the normal equations of the first kind
    :footcite:p:`saad2003iterative`, also known as CGLS,

    .. math::

        A^\top A v = A^\top b,

    for any invertible :math:`A`. Each iterate has the smallest residual
    :math:`\|b - A v\|` of the Krylov space of :math:`A^\top A` and :math:`A^\top b`, so
    that the residual never grows. :class:`CGNE <deepinv_equilibrium.CGNE>` minimises
    the error in its space instead. The backward pass solves :math:`J^\top v = b` with
    the Jacobian :math:`J` of :math:`x - f(x)`. For the row :math:`w = v^\top` the
    normal equations are :math:`w J J^\top = b^\top J^\top`, to which
    :footcite:t:`liu2024training` apply conjugate gradients.

    An iteration costs two products, one with :math:`A` and one with :math:`A^\top`. In
    the backward, the product with :math:`A^\top` differentiates a vector-Jacobian
    product, so that every operation of the step must have a second derivative. The rate
    depends on the squared condition number of :math:`A`: CGNR usually needs more
    products than :class:`GMRES <deepinv_equilibrium.GMRES>`, and less memory.

    If :math:`A^\top (b - A v)` vanishes up to rounding and the residual does not,
    :math:`A` is singular, and :math:`v` is a least-squares solution: the sample stops
    as ``DIVERGED``.

    :param int max_iter: largest number of iterations. Default: 100.
    :param float rtol: tolerance on :math:`\|b - A v\| / \|b\|`. Default: ``1e-4``.
    :param float atol: tolerance on :math:`\|b - A v\|`. Default: 0.
    :raises ValueError: if an argument is out of its range.
    """

    def run(self, operator: LinearOperator, rhs: Tensor) -> tuple[Tensor, Report]:
        """Solve the systems, see :class:`LinearSolver`."""
        monitor = LinearMonitor(self, rhs, operator)
        v, r, p = torch.zeros_like(rhs), rhs, torch.zeros_like(rhs)
        square = torch.zeros_like(dot(r, r))  # |A^T r|^2 of the last iteration
        largest = torch.zeros_like(square)  # largest |A p| / |p| so far
        for _ in range(self.max_iter):
            if not monitor.is_running():
                break
            # Zeros for samples that have stopped: their products stay finite.
            slope = operator.adjoint(torch.where(monitor.active[:, None], r, 0.0))
            monitor.count()
            previous, square = square, dot(slope, slope)
            monitor.stop(~torch.isfinite(square)[:, 0], Status.NONFINITE)
            least = monitor.floor * largest * dot(r, r).sqrt()
            monitor.stop((square.sqrt() <= least)[:, 0], Status.DIVERGED)
            where = monitor.active[:, None]
            beta = torch.where(where & (previous > 0), square / previous, 0.0)
            p = torch.where(where, slope + beta.to(rhs.dtype) * p, 0.0)
            product = operator.apply(p)
            monitor.count()
            bad = ~torch.isfinite(product).all(dim=1)
            monitor.stop(bad, Status.NONFINITE)
            size = dot(product, product)
            monitor.stop(size[:, 0] == 0, Status.DIVERGED)
            where = monitor.active[:, None]
            stretch = (size / dot(p, p)).sqrt()
            largest = largest.maximum(torch.where(where, stretch, 0.0))
            length = torch.where(where, square / size, 0.0).to(rhs.dtype)
            v = torch.where(where, v + length * p, v)
            r = torch.where(where, r - length * product, r)
            monitor.observe(dot(r, r).sqrt()[:, 0])
        return v, monitor.report()
