"""The base class of all solvers: budget and tolerances."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..argument_checks import SuggestsArguments, require_count, require_number


@dataclass(frozen=True, kw_only=True)
class Solver(SuggestsArguments):
    r"""
    Base class of all solvers: a frozen dataclass that holds no tensors.

    Each sample stops when its own residual is at most ``rtol`` (relative) or ``atol``
    (absolute). With ``rtol=0`` and ``atol=0`` every sample makes ``max_iter``
    iterations and ends as ``COMPLETED``.

    :param int max_iter: largest number of iterations, at least 1. Default: 100.
    :param float rtol: tolerance on the relative residual, in :math:`[0, 1)`. Default:
        ``1e-4``.
    :param float atol: tolerance on the absolute residual, nonnegative. Default: 0.
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
        """Whether a tolerance may stop a sample before ``max_iter``."""
        return self.rtol > 0 or self.atol > 0

    @property
    def has_fixed_budget(self) -> bool:
        """Whether a sample that reaches ``max_iter`` ends as ``COMPLETED``."""
        return not self.has_tolerance
