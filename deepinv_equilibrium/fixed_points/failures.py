"""Warnings and errors about samples that did not converge."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Literal, TypeAlias

from .caller_warnings import warn_caller
from .late_numbers import LateStatuses
from .solution import Report, Solution, Status

OnFailure: TypeAlias = Literal["warn", "raise", "ignore"]
ON_FAILURE: tuple[OnFailure, ...] = ("warn", "raise", "ignore")
FailurePolicy: TypeAlias = Literal["warn", "raise", "ignore", "skip"]
"""What to do in a training: with ``"skip"`` a sample that fails adds nothing to any
gradient, beside the warning."""
FAILURE_POLICIES: tuple[FailurePolicy, ...] = (*ON_FAILURE, "skip")

_SHARES = (
    (1.0, "all samples"),
    (0.5, "at least half of the samples"),
    (0.1, "at least a tenth of the samples"),
    (0.0, "less than a tenth of the samples"),
)


class ConvergenceWarning(UserWarning):
    """Some samples of a forward or backward solve did not converge."""


class ConvergenceError(RuntimeError):
    r"""
    Some samples of a forward or backward solve did not converge.

    :param str message: which samples failed, and the remedy.
    :param deepinv_equilibrium.Report solution: the report of the solve; for a forward
        solve the :class:`Solution <deepinv_equilibrium.Solution>` itself.
    """

    def __init__(self, message: str, solution: Report):
        super().__init__(message)
        self.solution = solution


_LATE: deque[tuple[Report, str]] = deque(maxlen=16)
"""Reports of solves on an accelerator whose statuses have not been read."""


def check_on_failure(
    on_failure: str, allowed: Sequence[FailurePolicy] = ON_FAILURE
) -> None:
    r"""
    Raise unless ``on_failure`` is an allowed value.

    :param str on_failure: the value of the argument.
    :param Sequence allowed: the values. Default: all but ``"skip"``.
    :raises ValueError: if it is something else.
    """
    if on_failure not in allowed:
        raise ValueError(f"on_failure must be one of {allowed}, got {on_failure!r}.")


def report_failure(report: Report, on_failure: FailurePolicy, what: str) -> None:
    r"""
    Warn or raise if samples of a solve failed.

    The warning says how many samples failed only roughly, and rounds their residuals up
    to a power of ten. Python's default filter therefore shows it again if failures
    become more frequent or worse, and not in every call. The host does not wait for a
    solve on an accelerator that has no tolerance: its warning comes with a later solve,
    see :func:`report_late_failures`.

    :param deepinv_equilibrium.Report report: the report of the solve.
    :param str on_failure: ``"warn"``, ``"raise"``, ``"ignore"`` or ``"skip"``, which
        warns.
    :param str what: name of the solve, with which the message starts.
    :raises ConvergenceError: if samples failed and ``on_failure="raise"``.
    """
    if on_failure == "ignore":
        return
    if on_failure != "raise" and isinstance(report.status, LateStatuses):
        # Detached: what waits here must not keep the graph of the solve alive.
        kept = report.detach() if isinstance(report, Solution) else report
        _LATE.append((kept, what))
        return
    _report_failure(report, on_failure, what)


def report_late_failures() -> None:
    """Warn of the failures of earlier solves on an accelerator that are now known."""
    while _LATE:
        report, what = _LATE[0]
        assert isinstance(report.status, LateStatuses)
        if not report.status.numbers.has_arrived:
            return
        _LATE.popleft()
        _report_failure(report, "warn", what)


def _report_failure(report: Report, on_failure: FailurePolicy, what: str) -> None:
    failed = [i for i, status in enumerate(report.status) if status.failed]
    if not failed:
        return
    if on_failure == "raise":
        head = f"{what}: {len(failed)} of {len(report.status)} samples failed."
        raise ConvergenceError("\n".join([head, *_lines(report, True)]), report)
    share = len(failed) / len(report.status)
    how_many = next(name for least, name in _SHARES if share >= least)
    head = f"{what}: {how_many} failed, {_size(report.residual[failed].tolist())}."
    warn_caller("\n".join([head, *_lines(report, False)]), ConvergenceWarning)


def _size(residuals: list[float]) -> str:
    """Describe the largest residual by the power of ten above it."""
    largest = max(residuals)
    if not all(map(math.isfinite, residuals)):
        return "and a residual is not finite"
    power = math.ceil(math.log10(largest)) if largest > 0 else 0
    return f"with relative residuals of up to {10.0**power:.0e}"


def _lines(report: Report, with_samples: bool) -> list[str]:
    """Return a line with the remedy for each status that is a failure."""
    lines = []
    for status in Status:
        samples = [i for i, other in enumerate(report.status) if other is status]
        if status.failed and samples:
            shown = ", ".join(map(str, samples[:8]))
            more = ", ..." if len(samples) > 8 else ""
            where = f" (sample {shown}{more})" if with_samples else ""
            lines.append(f"{status.name}{where}: {report.sentence(status)}")
    return lines
