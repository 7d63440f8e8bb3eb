"""The suite of the adjoints."""

from __future__ import annotations

from ...fixed_points import Adjoint
from ..contracts import Contract, ContractReport, Suite
from .adjoint_case import AdjointCase, Formula, exact_adjoint
from .adjoint_conduct import (
    changes_no_value,
    frees_its_memory,
    is_a_frozen_value,
    keeps_samples_apart,
    leaves_out_failed_samples,
    scales_with_the_loss,
)
from .adjoint_gradients import (
    agrees_with_finite_differences,
    differentiates_outputs,
    differentiates_twice_or_raises,
    gives_the_declared_gradient,
)

_SUITE = Suite(
    AdjointCase,
    is_a_frozen_value,
    gives_the_declared_gradient,
    agrees_with_finite_differences,
    differentiates_outputs,
    changes_no_value,
    keeps_samples_apart,
    leaves_out_failed_samples,
    differentiates_twice_or_raises,
    scales_with_the_loss,
    frees_its_memory,
)


def adjoint_contracts() -> dict[str, Contract[..., AdjointCase]]:
    """Return the contracts of :func:`check_adjoint` by name."""
    return dict(_SUITE.contracts)


def check_adjoint(
    adjoint: Adjoint,
    formula: Formula | None = exact_adjoint,
    symmetric: bool = False,
    rtol: float = 1e-6,
) -> ContractReport:
    r"""
    Check that an adjoint computes the gradient of a fixed point that it declares.

    At a fixed point :math:`x^* = f(x^*, \theta)` with the Jacobian :math:`J` the
    gradient of a loss is :math:`v^\top \partial_\theta f(x^*)`. The vector :math:`v` is
    a function of :math:`J` and :math:`c = \partial\ell / \partial x^*`, the formula of
    the adjoint. The check evaluates the formula with dense Jacobians of random steps,
    and compares an exact adjoint with central differences too.
    :func:`adjoint_contracts` returns the contracts.

    :param Adjoint adjoint: the adjoint.
    :param Callable formula: from :math:`J` and :math:`c` to :math:`v`. Default:
        :func:`exact_adjoint`; an approximation declares its own, e.g.
        :func:`neumann_sum`, or ``None`` if it has none.
    :param bool symmetric: whether the Jacobians of the steps are symmetric, for
        adjoints that ask for it. Default: ``False``.
    :param float rtol: accuracy of the gradient, relative to its largest entry.
    :return: (ContractReport) which contracts hold.
    :raises ContractError: if a contract is broken; the message names the contract.
    :raises TypeError: if ``adjoint`` is not an Adjoint.

    |sep|

    :Example:

    >>> import deepinv_equilibrium as deq
    >>> from deepinv_equilibrium import testing
    >>> implicit = deq.Implicit(deq.GMRES(rtol=1e-9))
    >>> len(testing.check_adjoint(implicit).held)
    10
    >>> report = testing.check_adjoint(deq.Neumann(order=3), testing.neumann_sum(3))
    >>> report.notes["agrees_with_finite_differences"]
    'does not apply: the adjoint is not declared exact'
    """
    return _SUITE.check(AdjointCase(adjoint, formula, symmetric, rtol))
