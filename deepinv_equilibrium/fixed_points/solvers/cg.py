"""Conjugate gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..solution import Report, Status
from .linear_solver import LinearMonitor, LinearOperator, LinearSolver, dot


@dataclass(frozen=True, kw_only=True)
class CG(LinearSolver):
    r"""
    Conjugate gradients :footcite:p:`hestenes1952methods` for symmetric positive
    definite :math:`A`. In the backward, :math:`A` has this property if the Jacobian of
    the step is symmetric with eigenvalues below 1, as for gradient steps on a
    potential.

    An iteration costs one product. The error in the energy norm falls at least as
    :math:`2 ((\sqrt\kappa - 1) / (\sqrt\kappa + 1))^k`, with the condition number
    :math:`\kappa`. A direction of nonpositive curvature, up to rounding, shows that
    :math:`A` is not positive definite: the sample then stops as ``DIVERGED``, and the
    iterate with the smallest residual is returned. For a singular system without a
    solution, this iterate is near a least-squares solution.

    :param int max_iter: largest number of products. Default: 100.
    :param float rtol: tolerance on :math:`\|b - A v\| / \|b\|`. Default: ``1e-4``.
    :param float atol: tolerance on :math:`\|b - A v\|`. Default: 0.
    :raises ValueError: if an argument is out of its range.
    """

    def run(self, operator: LinearOperator, rhs: Tensor) -> tuple[Tensor, Report]:
        """Solve the systems, see :class:`LinearSolver`."""
        monitor = LinearMonitor(self, rhs, operator)
        v, r, p = torch.zeros_like(rhs), rhs, rhs
        square = dot(r, r)
        best, least = v, square
        largest = torch.zeros_like(square)  # largest |A p| / |p| so far
        for _ in range(self.max_iter):
            if not monitor.is_running():
                break
            # Zeros for samples that have stopped: their products stay finite.
            p = torch.where(monitor.active[:, None], p, 0.0)
            product = operator.apply(p)
            monitor.count()
            curvature = dot(p, product)
            monitor.stop(~torch.isfinite(curvature)[:, 0], Status.NONFINITE)
            stretch = (dot(product, product) / dot(p, p)).sqrt()
            largest = largest.maximum(torch.where(stretch.isfinite(), stretch, 0.0))
            singular = (curvature <= 0) | (stretch <= monitor.floor * largest)
            monitor.stop(singular[:, 0], Status.DIVERGED)
            where = monitor.active[:, None]
            length = torch.where(where, square / curvature, 0.0).to(rhs.dtype)
            finite = torch.isfinite(v + length * p).all(dim=1)
            monitor.stop(~finite, Status.NONFINITE)
            where = monitor.active[:, None]
            v = torch.where(where, v + length * p, v)
            r = torch.where(where, r - length * product, r)
            previous, square = square, dot(r, r)
            better = where & (square < least)
            best, least = torch.where(better, v, best), square.minimum(least)
            monitor.observe(square.sqrt()[:, 0])
            p = r + torch.where(where, square / previous, 0.0).to(rhs.dtype) * p
        bad = monitor.status == int(Status.DIVERGED)
        monitor.absolute = torch.where(bad, least.sqrt()[:, 0], monitor.absolute)
        return torch.where(bad[:, None], best, v), monitor.report()
