"""The implicit gradient, by a solver of the adjoint system."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from ..argument_checks import require_instance
from ..solution import Report
from ..solvers.fixed_point_solver import FixedPointSolver
from ..solvers.gmres import GMRES
from ..solvers.linear_solver import LinearSolver
from .adjoint import Adjoint
from .recording import Cotangent, Recording


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
    relative error of its right side. The backward warns or raises if a sample does not
    meet the tolerance. If the forward pass ran under ``torch.autocast``, products with
    :math:`J^\top` have the rounding of its dtype, :math:`2^{-7}` for bfloat16 and
    :math:`2^{-10}` for float16, which is the least relative tolerance of a solver of
    fixed points. The gradient of the gradient raises ``NotImplementedError``.

    :param LinearSolver, FixedPointSolver solver: solver of the adjoint system. A linear
        solver solves it as it stands (:class:`CG <deepinv_equilibrium.CG>` only for
        symmetric :math:`J`); a solver of fixed points iterates
        :math:`v \leftarrow J^\top v + \partial \ell / \partial x^*`. Default:
        ``GMRES(rtol=1e-3)``.
    :raises TypeError: if ``solver`` is neither.
    """

    solver: LinearSolver | FixedPointSolver = field(
        default_factory=lambda: GMRES(rtol=1e-3)
    )

    def __post_init__(self) -> None:
        require_instance("solver", self.solver, LinearSolver, FixedPointSolver)

    def transform(
        self, recording: Recording, cotangent: Cotangent
    ) -> tuple[Tensor, Report | None]:
        """Solve the adjoint system."""
        rhs = recording.right_side(cotangent)
        solver = self.solver
        if isinstance(solver, LinearSolver):
            return solver.run(recording.adjoint_operator(), rhs)
        if recording.autocast is not None and 0 < solver.rtol < recording.autocast.eps:
            # The residual of an iteration cannot fall below the rounding of products.
            # The residual of a linear solver is a recursive estimate, which can.
            solver = replace(solver, rtol=recording.autocast.eps)
        return recording.iterate_adjoint(solver, rhs, rhs)
