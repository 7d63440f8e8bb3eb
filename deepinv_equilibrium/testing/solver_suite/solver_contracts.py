"""The suite of fixed-point solvers."""

from __future__ import annotations

from ...fixed_points import FixedPointSolver
from ..contracts import Contract, ContractReport, Suite
from .solver_case import SolverCase
from .solver_results import (
    changes_no_input,
    fills_the_inverse_jacobian,
    finds_fixed_points,
    is_a_frozen_value,
    reports_true_residuals,
    scales_with_the_problem,
)
from .solver_stopping import (
    keeps_samples_apart,
    learns_nothing_from_rejected_samples,
    names_failures,
    refuses_wrong_arguments,
    respects_max_iter,
    respects_the_domain,
    stops_at_the_absolute_tolerance,
    stops_each_sample,
)

_SUITE = Suite(
    SolverCase,
    is_a_frozen_value,
    finds_fixed_points,
    keeps_samples_apart,
    refuses_wrong_arguments,
    stops_each_sample,
    stops_at_the_absolute_tolerance,
    respects_max_iter,
    reports_true_residuals,
    names_failures,
    learns_nothing_from_rejected_samples,
    respects_the_domain,
    scales_with_the_problem,
    changes_no_input,
    fills_the_inverse_jacobian,
)


def solver_contracts() -> dict[str, Contract[..., SolverCase]]:
    """Return the contracts of :func:`check_solver` by name."""
    return dict(_SUITE.contracts)


def check_solver(solver: FixedPointSolver, rate: float = 0.8) -> ContractReport:
    r"""
    Check that a solver finds fixed points and reports how the solve went.

    The contracts replace ``max_iter``, ``rtol`` and ``atol`` of the solver. Its other
    fields are not changed. :func:`solver_contracts` returns the contracts.

    :param FixedPointSolver solver: the solver, any instance of its class.
    :param float rate: Lipschitz constant of the hardest steps that it must solve, in
        (0, 1). A solver with a certified rate is given steps within that rate.
    :return: (ContractReport) which contracts hold.
    :raises ContractError: if a contract is broken; the message names the contract.
    :raises TypeError: if ``solver`` is not a FixedPointSolver.
    :raises ValueError: if ``rate`` is out of its range.

    |sep|

    :Example:

    >>> import deepinv_equilibrium as deq
    >>> from deepinv_equilibrium import testing
    >>> testing.check_solver(deq.Anderson(history_size=3)).held[:2]
    ['is_a_frozen_value', 'finds_fixed_points']
    """
    return _SUITE.check(SolverCase(solver, rate))
