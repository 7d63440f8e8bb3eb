"""GMRES with restarts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..argument_checks import require_count
from ..solution import Report, Status
from ..state import combinations, inner_products
from .linear_solver import LinearMonitor, LinearOperator, LinearSolver


@dataclass(frozen=True, kw_only=True)
class GMRES(LinearSolver):
    r"""
    Restarted GMRES :footcite:p:`saad1986gmres`, which minimises :math:`\|b - A v\|`
    over the Krylov space of :math:`A` and :math:`b`.

    An iteration costs one product, and each restart costs one more. The memory is
    ``restart`` vectors. With :math:`A = I - J^\top`, the partial sums of the Neumann
    series are elements of the Krylov space, so that until the first restart the
    residual after :math:`k` products is at most :math:`\|J\|^k \|b\|`.

    :param int restart: dimension of the Krylov space at which to restart, at least 1.
        Default: 30.
    :param int max_iter: largest number of iterations, over all restarts. Default: 100.
    :param float rtol: tolerance on :math:`\|b - A v\| / \|b\|`. Default: ``1e-4``.
    :param float atol: tolerance on :math:`\|b - A v\|`. Default: 0.
    :raises ValueError: if an argument is out of its range.
    """

    restart: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("restart", self.restart, 1)

    def run(self, operator: LinearOperator, rhs: Tensor) -> tuple[Tensor, Report]:
        """Solve the systems, see :class:`LinearSolver`."""
        monitor = LinearMonitor(self, rhs, operator)
        v = torch.zeros_like(rhs)
        residual, done = rhs, 0
        while done < self.max_iter and monitor.is_running():
            if done:
                masked = torch.where(monitor.active[:, None], v, 0.0)
                residual = rhs - operator.apply(masked)
                monitor.count()
                finite = torch.isfinite(residual).all(dim=1)
                monitor.stop(~finite, Status.NONFINITE)
            residual = torch.where(monitor.active[:, None], residual, 0.0)
            cycle = KrylovCycle(residual, min(self.restart, self.max_iter - done))
            done += cycle.run(operator, monitor)
            v = v + cycle.correction()
        return v, monitor.report()


class KrylovCycle:
    r"""
    One Arnoldi process: an orthonormal basis, and the Hessenberg matrix, which is
    brought to triangular form by rotations as it grows. For a sample that stops, the
    rest of the basis is zero.

    :param torch.Tensor residual: first vector of the Krylov space, of shape
        :math:`(B, n)`.
    :param int size: largest dimension of the space.
    """

    def __init__(self, residual: Tensor, size: int):
        batch, n = residual.shape
        self.size = size
        norm = torch.linalg.vector_norm(residual, dim=1, dtype=torch.float64)
        self.basis = residual.new_zeros(batch, size + 1, n)
        scale = torch.where(norm > 0, norm, 1.0).to(residual.dtype)
        self.basis[:, 0] = residual / scale[:, None]
        eye = torch.eye(size + 1, dtype=torch.float64, device=residual.device)
        self.rotation = eye.repeat(batch, 1, 1)
        # Columns that a sample never fills are those of the identity; `target` is 0
        # there.
        self.triangle = eye[:, :size].repeat(batch, 1, 1)
        self.target = residual.new_zeros(batch, size + 1, dtype=torch.float64)
        self.target[:, 0] = norm
        self.filled = torch.zeros(batch, size, dtype=torch.bool, device=residual.device)

    def run(self, operator: LinearOperator, monitor: LinearMonitor) -> int:
        """Extend the space until it is full or all samples have stopped, and return the
        number of iterations."""
        for j in range(self.size):
            active = monitor.active
            direction = torch.where(active[:, None], self.basis[:, j], 0.0)
            w = operator.apply(direction)
            monitor.count()
            monitor.stop(~torch.isfinite(w).all(dim=1), Status.NONFINITE)
            w = torch.where(monitor.active[:, None], w, 0.0)
            column, w = self._orthogonalise(w, j)
            length = column[:, j + 1].clone()
            left = self._rotate(column, j, monitor.active)
            safe = torch.where(length > 0, length, 1.0).to(w.dtype)[:, None]
            self.basis[:, j + 1] = torch.where((length > 0)[:, None], w / safe, 0.0)
            monitor.observe(left)
            # The space is invariant, and contains the solution unless A is singular.
            exact = left <= torch.finfo(w.dtype).eps * monitor.rhs_norm
            monitor.stop((length == 0) & exact, Status.CONVERGED)
            monitor.stop(length == 0, Status.MAX_ITER)
            if not monitor.is_running():
                return j + 1
        return self.size

    def correction(self) -> Tensor:
        """Return the element of the space that minimises the residual."""
        target = torch.where(self.filled, self.target[:, :-1], 0.0)[..., None]
        coefficients = torch.linalg.solve_triangular(
            self.triangle[:, :-1], target, upper=True
        )
        weights = coefficients[..., 0].to(self.basis.dtype)
        return combinations(self.basis[:, :-1], weights)

    def _orthogonalise(self, w: Tensor, j: int) -> tuple[Tensor, Tensor]:
        """Return the coefficients of w in the basis, in float64, and the orthogonal
        remainder, by Gram-Schmidt applied twice."""
        column = torch.zeros_like(self.target)
        scale = torch.linalg.vector_norm(w, dim=1, dtype=torch.float64)
        known = self.basis[:, : j + 1]
        for _ in range(2):
            part = inner_products(known, w)
            w = w - combinations(known, part)
            column[:, : j + 1] += part.double()
        length = torch.linalg.vector_norm(w, dim=1, dtype=torch.float64)
        rounding = torch.finfo(w.dtype).eps * scale
        column[:, j + 1] = torch.where(length > rounding, length, 0.0)
        return column, w

    def _rotate(self, column: Tensor, j: int, active: Tensor) -> Tensor:
        """Bring the new column to triangular form, and return the residual norms."""
        size = torch.linalg.vector_norm(column, dim=1)
        column = (self.rotation @ column[..., None])[..., 0]
        a, b = column[:, j], column[:, j + 1]
        radius = torch.hypot(a, b)
        # A pivot that is only rounding would pretend to solve a singular system.
        ok = active & (radius > 10 * torch.finfo(self.basis.dtype).eps * size)
        self.filled[:, j] = ok
        c = torch.where(ok, a / radius, 1.0)[:, None]
        s = torch.where(ok, b / radius, 0.0)[:, None]
        upper, lower = self.rotation[:, j].clone(), self.rotation[:, j + 1].clone()
        self.rotation[:, j] = c * upper + s * lower
        self.rotation[:, j + 1] = c * lower - s * upper
        head = self.target[:, j].clone()
        self.target[:, j] = c[:, 0] * head
        self.target[:, j + 1] = -s[:, 0] * head
        column = torch.cat([column[:, :j], radius[:, None]], dim=1)
        self.triangle[:, : j + 1, j] = torch.where(
            ok[:, None], column, self.triangle[:, : j + 1, j]
        )
        return torch.where(ok, self.target[:, j + 1], head).abs()
