"""What all solvers share: when to stop, and how to check their arguments."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..argument_checks import require_count, require_number


@dataclass(frozen=True, kw_only=True)
class Solver:
    r"""
    Base of all solvers: frozen and without tensors.

    A sample stops when its own residual meets ``rtol`` or ``atol``, whatever its
    batch-mates do. With ``rtol=0`` and ``atol=0`` the budget ``max_iter`` is spent in
    full, and the solve ends as ``COMPLETED``.

    :param int max_iter: the most iterations, at least 1.
    :param float rtol: tolerance on the relative residual, in :math:`[0, 1)`.
    :param float atol: tolerance on the absolute residual, nonnegative.
    :raises ValueError: if an argument is out of its range.
    """

    max_iter: int = 100
    rtol: float = 1e-4
    atol: float = 0.0

    def __post_init__(self) -> None:
        require_count("max_iter", self.max_iter, 1)
        require_number("rtol", self.rtol)
        require_number("atol", self.atol)
        if not 0 <= self.rtol < 1:
            raise ValueError(f"rtol must be in [0, 1), got {self.rtol!r}.")
        if not 0 <= self.atol < math.inf:
            raise ValueError(
                f"atol must be a nonnegative finite number, got {self.atol!r}."
            )

    @property
    def has_tolerance(self) -> bool:
        """Whether a sample may stop before the budget is spent."""
        return self.rtol > 0 or self.atol > 0

    @property
    def has_fixed_budget(self) -> bool:
        """Whether ending at ``max_iter`` is what was asked for."""
        return not self.has_tolerance
