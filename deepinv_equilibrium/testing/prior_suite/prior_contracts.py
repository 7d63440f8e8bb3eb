"""The suite of the priors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepinv.optim import Prior

from ..contracts import Contract, ContractReport, Suite
from .prior_case import PriorCase
from .prior_prox import (
    has_the_derivative_of_its_prox,
    has_the_minimising_prox,
    meets_the_optimality_condition,
    respects_its_prox_bounds,
    takes_a_weight_for_each_sample,
)
from .prior_values import (
    has_the_gradient_of_its_values,
    is_convex_as_declared,
    keeps_samples_apart,
    respects_its_gradient_bounds,
    returns_one_number_a_sample,
)

_SUITE = Suite(
    PriorCase,
    returns_one_number_a_sample,
    has_the_gradient_of_its_values,
    has_the_minimising_prox,
    meets_the_optimality_condition,
    takes_a_weight_for_each_sample,
    keeps_samples_apart,
    is_convex_as_declared,
    respects_its_gradient_bounds,
    respects_its_prox_bounds,
    has_the_derivative_of_its_prox,
)


def prior_contracts() -> dict[str, Contract[..., PriorCase]]:
    """Return the contracts of :func:`check_prior` by name."""
    return dict(_SUITE.contracts)


def check_prior(
    prior: Prior,
    img_size: Sequence[int],
    parameters: tuple[Any, ...] = (),
    convex: bool = False,
    rtol: float = 0.0,
) -> ContractReport:
    r"""
    Check that the energy, the gradient and the proximal operator of a prior agree.

    The proximal operator is checked by its definition,

    .. math::

        \operatorname{prox}_{\gamma g}(x) = \operatorname*{arg\,min}_u
        \gamma g(u) + \tfrac12 \|u - x\|^2,

    by comparison with perturbations of its value, with other weights :math:`\gamma` and
    with a numerical minimisation. The gradient is compared with central differences. A
    contract does not apply if the prior lacks, refuses or does not declare what it is
    about. :func:`prior_contracts` returns the contracts.

    :param deepinv.optim.Prior prior: the prior; a copy of it is run.
    :param Sequence img_size: size of an image without the batch, :math:`(C, H, W)`.
    :param tuple parameters: further arguments of its methods after the image, such as
        the noise level, which deepinv's optimisers pass as ``g_param``.
    :param bool convex: whether the prior is convex, which makes the check stronger.
        Default: ``False``.
    :param float rtol: accuracy of the proximal operator relative to its norm, if it is
        computed by an iteration. Default: 0.
    :return: (ContractReport) which contracts hold.
    :raises ContractError: if a contract is broken; the message names the contract.
    :raises TypeError: if ``prior`` is not a Prior, or ``img_size`` is not a sequence.
    :raises ValueError: if ``img_size`` does not hold one to four positive integers.

    |sep|

    :Example:

    >>> import deepinv as dinv
    >>> from deepinv_equilibrium import testing
    >>> report = testing.check_prior(dinv.optim.Tikhonov(), (1, 6, 6), convex=True)
    >>> "has_the_minimising_prox" in report.held
    True
    """
    case = PriorCase(prior, img_size, parameters, convex, rtol)
    return _SUITE.check(case)
