"""Contracts of the solvers of linear systems."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...fixed_points import LinearOperator, LinearSolver, Report, Status
from ..contracts import Contract, ContractReport, Suite, require, require_close
from ..frozen_values import require_frozen_value
from ..random_problems import F64, contractions, normal, products

SIZE = 8


@dataclass(frozen=True)
class LinearSolverCase:
    """The arguments of :func:`check_linear_solver`."""

    component: LinearSolver
    symmetric: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.component, LinearSolver):
            raise TypeError(
                f"solver must be a LinearSolver, got {self.component!r}; for a solver "
                "of fixed-point equations use check_solver."
            )

    def solver(self, rtol: float = 1e-10, max_iter: int = 500) -> LinearSolver:
        """The solver with another tolerance and budget."""
        return replace(self.component, rtol=rtol, atol=0.0, max_iter=max_iter)

    @property
    def systems(self) -> Systems:
        """Systems from easy to hard."""
        jacobians = contractions((0.1, 0.6, 0.9), SIZE, self.symmetric, seed=1)
        return Systems(torch.eye(SIZE, dtype=F64) - jacobians, normal(3, SIZE, seed=2))


class Systems:
    r"""
    Linear systems :math:`A_i v_i = b_i`, which count the products with :math:`A` and
    :math:`A^\top`.

    :param torch.Tensor matrices: :math:`A_i`, of shape :math:`(B, n, n)`.
    :param torch.Tensor rhs: :math:`b_i`, of shape :math:`(B, n)`.
    """

    def __init__(self, matrices: Tensor, rhs: Tensor) -> None:
        self.matrices = matrices
        self.rhs = rhs
        self.count = 0

    @property
    def operator(self) -> LinearOperator:
        """The products."""
        return LinearOperator(
            self._counted(self.matrices), self._counted(self.matrices.mT)
        )

    def _counted(self, matrices: Tensor) -> Callable[[Tensor], Tensor]:
        def product(v: Tensor) -> Tensor:
            self.count += 1
            return products(matrices, v)

        return product

    def solve(self, solver: LinearSolver) -> tuple[Tensor, Report]:
        """Solve the systems."""
        with torch.no_grad():
            return solver.run(self.operator, self.rhs)

    def take(self, samples: list[int]) -> Systems:
        """Return some of the systems."""
        return Systems(self.matrices[samples], self.rhs[samples])


def is_a_frozen_value(case: LinearSolverCase) -> None:
    """The solver is a frozen dataclass without tensors, with a hash and a repr."""
    require_frozen_value(case.component)


def solves_systems(case: LinearSolverCase) -> None:
    """Random systems are solved to the tolerance in both precisions."""
    for dtype, rtol in ((F64, 1e-10), (torch.float32, 1e-4)):
        exact = torch.linalg.solve(case.systems.matrices, case.systems.rhs)
        systems = Systems(case.systems.matrices.to(dtype), case.systems.rhs.to(dtype))
        v, report = systems.solve(case.solver(rtol))
        require(
            report.converged.all(),
            f"in {dtype} the statuses are {_names(report)}, not CONVERGED",
        )
        require_close(f"the solution in {dtype}", v.double(), exact, 20 * rtol)


def reports_true_residuals(case: LinearSolverCase) -> None:
    """The reported residuals are those of the vector that is returned."""
    for solver in (case.solver(1e-6), case.solver(0.0, 3)):
        systems = case.systems
        v, report = systems.solve(solver)
        gap = systems.rhs - products(systems.matrices, v)
        norms = torch.linalg.vector_norm(gap, dim=1)
        require_close("absolute_residual", report.absolute_residual, norms, 1e-6)
        size = torch.linalg.vector_norm(systems.rhs, dim=1)
        require_close("residual", report.residual, norms / size, 1e-6)


def keeps_samples_apart(case: LinearSolverCase) -> None:
    """A system's solution is the same alone and in any batch, in any order."""
    for solver in (case.solver(1e-4), case.solver(0.0, 3)):
        together, report = case.systems.solve(solver)
        for order in ([0], [1], [2], [2, 0, 1]):
            v, other = case.systems.take(order).solve(solver)
            require_close(f"v of samples {order}", v, together[order], 1e-12)
            for name in ("iterations", "evaluations"):
                found = getattr(other, name).tolist()
                expected = getattr(report, name)[order].tolist()
                require(
                    found == expected,
                    f"{name} of samples {order} change with the other samples: {found} "
                    f"instead of {expected}",
                )


def respects_max_iter(case: LinearSolverCase) -> None:
    """The report has the number of products. A budget ends as COMPLETED, or as MAX_ITER
    if there is a tolerance."""
    for rtol, status in ((0.0, Status.COMPLETED), (1e-12, Status.MAX_ITER)):
        systems = case.systems.take([2])
        _, report = systems.solve(case.solver(rtol, 2))
        require(
            report.iterations.tolist() == [2],
            f"with max_iter=2 it reports {report.iterations.tolist()} iterations",
        )
        require(
            report.evaluations.tolist() == [systems.count],
            f"it reports {report.evaluations.tolist()} products and makes "
            f"{systems.count}",
        )
        require(
            report.status == (status,),
            f"two iterations with rtol={rtol:g} end as {_names(report)}, not "
            f"{status.name}",
        )


def names_failures(case: LinearSolverCase) -> None:
    """Samples with NaN have the right status and do not change the others. The solution
    for a zero right side is zero."""
    solver = case.solver(1e-8)
    clean, _ = case.systems.solve(solver)
    for spoilt in ("matrix", "right side"):
        systems = case.systems
        systems.rhs[1] = 0
        if spoilt == "matrix":
            systems.matrices[0] *= math.nan
        else:
            systems.rhs[0] = math.nan
        v, report = systems.solve(solver)
        require(
            report.status == (Status.NONFINITE, Status.CONVERGED, Status.CONVERGED),
            f"a {spoilt} of NaN, a zero right side and a regular system end as "
            f"{_names(report)}, not NONFINITE, CONVERGED, CONVERGED",
        )
        require(not v[1].any(), "a zero right side is not solved by zero")
        require(
            int(report.evaluations[1]) == 0,
            f"a zero right side costs {int(report.evaluations[1])} products",
        )
        require_close("v beside a sample with NaN", v[2], clean[2], 1e-12)


def scales_with_the_problem(case: LinearSolverCase) -> None:
    """Scaling the right side scales the solution and changes nothing else."""
    base, report = case.systems.solve(case.solver(1e-8))
    for factor in (2.0**-20, 2.0**20):  # powers of two round alike
        scaled = Systems(case.systems.matrices, factor * case.systems.rhs)
        v, other = scaled.solve(case.solver(1e-8))
        require(
            torch.equal(other.iterations, report.iterations),
            f"a right side {factor:.0e} times as large takes "
            f"{other.iterations.tolist()} iterations instead of "
            f"{report.iterations.tolist()}",
        )
        require_close("v of the scaled system", v / factor, base, 1e-9)


def _names(report: Report) -> str:
    return ", ".join(status.name for status in report.status)


_SUITE = Suite(
    LinearSolverCase,
    is_a_frozen_value,
    solves_systems,
    reports_true_residuals,
    keeps_samples_apart,
    respects_max_iter,
    names_failures,
    scales_with_the_problem,
)


def linear_solver_contracts() -> dict[str, Contract[..., LinearSolverCase]]:
    """Return the contracts of :func:`check_linear_solver` by name."""
    return dict(_SUITE.contracts)


def check_linear_solver(
    solver: LinearSolver, symmetric: bool = False
) -> ContractReport:
    r"""
    Check that a solver solves linear systems and reports how the solve went.

    The systems are :math:`(I - J) v = b` with random :math:`\|J\| < 1`, as in the
    backward pass of :class:`Implicit <deepinv_equilibrium.Implicit>`.
    :func:`linear_solver_contracts` returns the contracts.

    :param LinearSolver solver: the solver, any instance of its class.
    :param bool symmetric: whether the systems are symmetric positive definite, for
        solvers that ask for it, such as conjugate gradients. Default: ``False``.
    :return: (ContractReport) which contracts hold.
    :raises ContractError: if a contract is broken; the message names the contract.
    :raises TypeError: if ``solver`` is not a LinearSolver.

    |sep|

    :Example:

    >>> import deepinv_equilibrium as deq
    >>> from deepinv_equilibrium import testing
    >>> print(testing.check_linear_solver(deq.CG(), symmetric=True))
    CG
    is_a_frozen_value        holds
    solves_systems           holds
    reports_true_residuals   holds
    keeps_samples_apart      holds
    respects_max_iter        holds
    names_failures           holds
    scales_with_the_problem  holds
    """
    return _SUITE.check(LinearSolverCase(solver, symmetric))
