"""A solver that converges at a certified rate whatever is proposed to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import SupportsFloat, TypeAlias

import torch
from torch import Tensor

from ..argument_checks import require_number
from ..solution import LowRankInverse
from ..state import State, StateLayout
from ..step import PackedStep
from .fixed_point_solver import FixedPointSolver, Iteration

Accelerator: TypeAlias = Callable[[State, State], State]
"""From an iterate and its value to a proposal, e.g. a trained network. Samples must be
kept apart."""


@dataclass(frozen=True, kw_only=True)
class Safeguarded(FixedPointSolver):
    r"""
    The fixed point of a step :math:`f` of certified rate :math:`\rho < 1`, reached at
    that rate whatever is proposed.

    With :math:`r(x) = \|f(x) - x\|` and the best iterate :math:`x_k`, a proposal
    :math:`c` is accepted if and only if it contracts as a plain step is bound to,

    .. math::

        r(c) \le \rho\, r(x_k) \implies x_{k+1} = c, \qquad
        \text{otherwise } x_{k+1} = f(b), \quad
        b = \operatorname*{arg\,min}_{x \in \{x_k, c\}} r(x),

    for each sample on its own. In both cases :math:`r(x_{k+1}) \le \rho\, r(x_k)`,
    because :math:`r(f(x)) \le \rho\, r(x)`. An accepted proposal costs one evaluation,
    which the next iteration reuses, and a rejected one costs a second:
    :math:`r(x_k) \le \rho^k r(x_0)` after at most :math:`1 + 2k` evaluations, see
    :meth:`evaluations_to`. A proposal that is not finite costs nothing. The error is
    certified with it: :math:`\|x - x^*\| \le r(x) / (1 - \rho)`. What is returned is
    :math:`f` of the best iterate.

    It converges to the fixed point of :math:`f` and no other: an uncertified network
    can propose, and has no say in the result. The rate is held to account: where a
    plain step contracts less, by more than rounding, the rate is wrong, the sample
    stops, and its status is ``REFUTED``.

    :param proposal: what proposes: a solver, such as :class:`Anderson
        <deepinv_equilibrium.Anderson>` or :class:`Broyden
        <deepinv_equilibrium.Broyden>` (of which budget and tolerances are not used),
        or a function from an iterate and its value, states both, to a state.
        It is called without gradient.
    :param float, Bound rate: :math:`\rho`, in :math:`[0, 1)`: a certified bound of the
        Lipschitz constant of the step, in the Euclidean norm of its state, or a number
        that the caller vouches for.
    :param int max_iter: the most evaluations of the step. Default: 100.
    :param float rtol: tolerance on the relative residual. Default: ``1e-4``.
    :param float atol: tolerance on the absolute residual. Default: 0.
    :raises TypeError: if ``proposal`` or ``rate`` is of the wrong kind; at use, if a
        proposal is no state.
    :raises ValueError: if an argument is out of its range, or the rate is not
        certified; at use, if a proposal is not a state like the step's.

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
                "proposal must be a solver (Anderson(), Broyden()) or a function from "
                f"an iterate and its value to a proposal, got {self.proposal!r}."
            )
        # A bound of deepinv_equilibrium.certificates, which this package cannot know.
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
        """The rate as a number."""
        return float(self.rate)

    @property
    def fills_inverse_jacobian(self) -> bool:
        """Whether that which proposes does."""
        return (
            isinstance(self.proposal, FixedPointSolver)
            and self.proposal.fills_inverse_jacobian
        )

    def evaluations_to(self, tolerance: float, first_residual: float = 1.0) -> int:
        r"""
        Certified number of evaluations that suffice for a tolerance: :math:`1 + 2k`
        with the least :math:`k` of :math:`\rho^k r_0 \le` ``tolerance``, up to
        rounding.

        As the relative residual is at most :math:`r(x_k) / r_0`, the default
        ``first_residual`` makes it the count for a tolerance ``rtol``.

        :param float tolerance: what the absolute residual shall meet, positive.
        :param float first_residual: :math:`r_0 = \|f(x_0) - x_0\|`, nonnegative.
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
            raise ValueError("tolerance must be positive: 0 may never be met.")
        if self.certified_rate == 0:
            return 3
        # One more where rounding could have hidden it.
        log_ratio = (math.log(first_residual) - math.log(tolerance)) * (1 + 1e-12)
        return 1 + 2 * math.ceil(log_ratio / -math.log(self.certified_rate))

    def begin(self, x0: Tensor) -> Iteration:
        """The memory of the solver that proposes."""
        assert isinstance(self.proposal, FixedPointSolver)
        return self.proposal.begin(x0)

    def begin_on(self, step: PackedStep, x0: Tensor) -> Iteration:
        """The memory of that which proposes."""
        if isinstance(self.proposal, FixedPointSolver):
            return self.proposal.begin_on(step, x0)
        return AcceleratorIteration(self.proposal, step.layout)


@dataclass(frozen=True)
class AcceleratorIteration:
    """A function that proposes, on packed states; without memory of its own."""

    accelerator: Accelerator
    layout: StateLayout

    def propose(self, x: Tensor, value: Tensor, active: Tensor) -> Tensor:
        """What the function makes of copies, in a copy: it may work in place."""
        state, image = (self.layout.unpack(packed.clone()) for packed in (x, value))
        with torch.no_grad():
            proposal = self.accelerator(state, image)
        got = StateLayout.of(proposal, "a proposal")
        if got != self.layout:
            raise ValueError(
                "a proposal must be a state like the step's, of shapes "
                f"{self.layout.shapes} and dtypes {self.layout.dtypes}; got "
                f"{got.shapes} and {got.dtypes}."
            )
        return self.layout.pack(proposal).clone()

    def forget(self, where: Tensor) -> None:
        """There is nothing to forget."""

    def inverse_jacobian(self) -> LowRankInverse | None:
        """There is none."""
        return None
