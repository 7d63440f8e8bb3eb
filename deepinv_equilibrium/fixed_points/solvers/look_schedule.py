"""When the host looks at the residuals of a solve on an accelerator."""

from __future__ import annotations

import math
from collections.abc import Sequence

# After k evaluations the host has looked at most 1 + k / 4 times.
_EVALUATIONS_PER_LOOK = 4
_LONGEST_WAIT = 16


class LookSchedule:
    r"""
    The evaluations after which the host looks at the residuals.

    A look makes the host wait for all kernels that it has queued, and then the
    accelerator wait for the host. Between two looks samples stop by themselves, because
    their values are masked on the accelerator, so that a late look costs evaluations
    and changes no result. The next look is where the fall of the residuals since the
    last look lets the slowest sample meet its tolerance, or halfway if that is far.
    """

    def __init__(self) -> None:
        self._looks = 0
        self._next = 2  # two residuals tell a rate
        self._last: tuple[int, Sequence[float]] | None = None

    def is_due(self, evaluations: int) -> bool:
        r"""
        Return whether the host looks now.

        :param int evaluations: number of evaluations that were made.
        """
        return evaluations >= self._next

    def plan(
        self, evaluations: int, ratios: Sequence[float], running: Sequence[bool]
    ) -> None:
        r"""
        Choose the next look.

        :param int evaluations: number of evaluations that were made.
        :param Sequence ratios: the residual of each sample over its tolerance.
        :param Sequence running: which samples are running.
        """
        self._looks += 1
        wait = 1
        if self._last is not None:
            before, previous = self._last
            for old, new, runs in zip(previous, ratios, running, strict=True):
                if runs:
                    left = self._evaluations_left(old, new, evaluations - before)
                    wait = max(wait, left if left <= 4 else max(4, left // 2))
        self._last = evaluations, ratios
        earliest = _EVALUATIONS_PER_LOOK * self._looks
        self._next = max(evaluations + min(wait, _LONGEST_WAIT), earliest)

    @staticmethod
    def _evaluations_left(old: float, new: float, made: int) -> int:
        """Return how many evaluations a sample needs if its residual falls as before;
        many if it does not fall."""
        if not 0 < new < old < math.inf:
            return 2 * _LONGEST_WAIT
        left = made * math.log(new) / (math.log(old) - math.log(new))
        return max(1, math.ceil(min(left, 2 * _LONGEST_WAIT)))
