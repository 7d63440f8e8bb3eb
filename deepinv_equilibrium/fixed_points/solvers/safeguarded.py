"""A solver that converges at a certified rate with any proposals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import SupportsFloat, TypeAlias

import torch
from torch import Tensor

from ..argument_checks import describe_subclasses, require_number
from ..state import State, StateLayout
from .fixed_point_solver import FixedPointSolver, Iteration

Accelerator: TypeAlias = Callable[[State, State], State]
"""A function of an iterate and its value that returns a proposal, such as a trained
network. It must not couple samples."""


@dataclass(frozen=True, kw_only=True)
class Safeguarded(FixedPointSolver):
    r"""
    Acceleration with a certified rate, for a step :math:`f` that contracts at the
    certified rate :math:`\rho < 1`.

    With :math:`r(x) = \|f(x) - x\|` and the best iterate :math:`x_k`, a proposal
    :math:`c` is accepted if and only if its residual is as small as that of a plain
    step must be:

    .. math::

        r(c) \le \rho\, r(x_k) \implies x_{k+1} = c, \qquad
        \text{otherwise } x_{k+1} = f(b), \quad
        b = \operatorname*{arg\,min}_{x \in \{x_k, c\}} r(x),

    separately for each sample. In both cases :math:`r(x_{k+1}) \le \rho\, r(x_k)`,
    because :math:`r(f(x)) \le \rho\, r(x)`. An accepted proposal costs one evaluation,
    which the next iteration reuses; a rejected proposal costs two. Hence
    :math:`r(x_k) \le \rho^k r(x_0)` after at most :math:`1 + 2k` evaluations, see
    :meth:`evaluations_to`. A proposal that is not finite costs no evaluation. The error
    is certified too, :math:`\|x - x^*\| \le r(x) / (1 - \rho)`. The solution is
    :math:`f` of the best iterate.

    The solver can only converge to the fixed point of :math:`f`, so that an uncertified
    network may propose. It also checks the rate: if a plain step contracts less than
    :math:`\rho`, by more than rounding, the rate is wrong, and the sample stops with
    the status ``REFUTED``. Rounding is at most 100 units of
    :math:`\|f(x)\| + r(x) / (1 - \rho)`, which bounds :math:`\|x\|` and
    :math:`\|x^*\|`: the step may compute with larger numbers than its value.

    :param FixedPointSolver, Callable proposal: source of the proposals. Either a
        solver, such as :class:`Anderson <deepinv_equilibrium.Anderson>`, whose budget
        and tolerances are not used, or a function that takes an iterate and its value,
        both states, and returns a state. It is called without gradients.
    :param float, Bound rate: :math:`\rho`, in :math:`[0, 1)`: a certified bound of the
        Lipschitz constant of the step in the Euclidean norm of its state, or a number
        for which the caller takes responsibility.
    :param int max_iter: largest number of evaluations of the step. Default: 100.
    :param float rtol: tolerance on the relative residual. Default: ``1e-4``.
    :param float atol: tolerance on the absolute residual. Default: 0.
    :raises TypeError: if ``proposal`` or ``rate`` has the wrong type, or, during a
        solve, if a proposal is not a state.
    :raises ValueError: if an argument is out of its range, if the rate is not
        certified, or, during a solve, if a proposal differs from the state of the step
        in shape or dtype.

    :Example:

    >>> import torch
    >>> import deepinv_equilibrium as deq
    >>> solver = deq.Safeguarded(deq.Anderson(), rate=0.9)
    >>> solver.evaluations_to(1e-4)
    177
    >>> x0 = torch.zeros(1, 8)
    >>> print(deq.fixed_point(lambda x: 0.9 * x.cos(), x0, solver).status[0].name)
    CONVERGED
    """

    proposal: FixedPointSolver | Accelerator = field(kw_only=False)
    rate: SupportsFloat = field(kw_only=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.proposal) and not isinstance(
            self.proposal, FixedPointSolver
        ):
            raise TypeError(
                f"proposal must be {describe_subclasses(FixedPointSolver)} or a "
                "function of an iterate and its value that returns a proposal, got "
                f"{self.proposal!r}."
            )
        # A bound of deepinv_equilibrium.certificates, which this package cannot import.
        kind = getattr(self.rate, "kind", "certified")
        if kind != "certified" or getattr(self.rate, "is_lower", False):
            raise ValueError(
                f"rate must be certified from above, got the bound {self.rate}. Use "
                "the rate of a certificate (deq.certify), or a solver that needs none "
                "(Anderson); to vouch for the number yourself, pass float(rate)."
            )
        if isinstance(self.rate, Tensor | str) or not hasattr(self.rate, "__float__"):
            raise TypeError(f"rate must be a number or a Bound, got {self.rate!r}.")
        if not 0 <= float(self.rate) < 1:
            raise ValueError(
                f"rate must be in [0, 1), got {self.rate!r}: a step that does not "
                "contract cannot be safeguarded; use Anderson or Picard(relaxation)."
            )

    @property
    def certified_rate(self) -> float:
        r"""The rate :math:`\rho` as a number."""
        return float(self.rate)

    @property
    def fills_inverse_jacobian(self) -> bool:
        """Whether the proposing solver builds an estimate."""
        return (
            isinstance(self.proposal, FixedPointSolver)
            and self.proposal.fills_inverse_jacobian
        )

    def evaluations_to(self, tolerance: float, first_residual: float = 1.0) -> int:
        r"""
        Return a certified number of evaluations that suffice for a tolerance.

        The number is :math:`1 + 2k`, up to rounding, for the smallest :math:`k` with
        :math:`\rho^k r_0 \le` ``tolerance``. The relative residual is at most
        :math:`r(x_k) / r_0`, so that with the default ``first_residual`` the number is
        valid for ``rtol = tolerance``.

        :param float tolerance: bound on the absolute residual, positive; 0 is allowed
            if :math:`r_0 = 0`.
        :param float first_residual: :math:`r_0 = \|f(x_0) - x_0\|`, nonnegative.
            Default: 1.
        :return: (int) the number of evaluations.
        :raises ValueError: if an argument is out of its range.
        """
        for name, value in (
            ("tolerance", tolerance),
            ("first_residual", first_residual),
        ):
            require_number(name, value)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be nonnegative and finite: {value!r}.")
        if first_residual <= tolerance:
            return 1
        if tolerance == 0:
            raise ValueError(
                "tolerance must be positive, got 0, which may never be met."
            )
        if self.certified_rate == 0:
            return 3
        # The factor gives one iteration more where rounding could have hidden it.
        log_ratio = (math.log(first_residual) - math.log(tolerance)) * (1 + 1e-12)
        return 1 + 2 * math.ceil(log_ratio / -math.log(self.certified_rate))

    def begin(self, x0: Tensor, layout: StateLayout) -> Iteration:
        """Start a run of the proposing solver, or one that calls the function."""
        if isinstance(self.proposal, FixedPointSolver):
            return self.proposal.begin(x0, layout)
        return AcceleratorIteration(self.proposal, layout)


@dataclass(frozen=True)
class AcceleratorIteration(Iteration):
    """A run whose proposals are those of a function of states."""

    accelerator: Accelerator
    layout: StateLayout

    def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
        """Return what the function proposes."""
        # Copies of its arguments and of its result: it may work in place.
        state, image = (self.layout.unpack(packed.clone()) for packed in (x, value))
        with torch.no_grad():
            proposal = self.accelerator(state, image)
        got = StateLayout.of(proposal, "a proposal")
        if got != self.layout:
            raise ValueError(
                "a proposal must have the shapes and dtypes of the step's state, "
                f"{self.layout.shapes} and {self.layout.dtypes}, got {got.shapes} and "
                f"{got.dtypes}."
            )
        return self.layout.pack(proposal).clone()
