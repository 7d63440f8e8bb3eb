"""Warnings and errors about samples that did not converge."""

from __future__ import annotations

import warnings
from typing import Literal, TypeAlias

from .solution import Report, Status

OnFailure: TypeAlias = Literal["warn", "raise", "ignore"]
ON_FAILURE: tuple[OnFailure, ...] = ("warn", "raise", "ignore")


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


def check_on_failure(on_failure: str) -> None:
    r"""
    Raise unless ``on_failure`` is one of ``"warn"``, ``"raise"`` and ``"ignore"``.

    :param str on_failure: the value of the argument.
    :raises ValueError: if it is something else.
    """
    if on_failure not in ON_FAILURE:
        raise ValueError(f"on_failure must be one of {ON_FAILURE}, got {on_failure!r}.")


def report_failure(report: Report, on_failure: OnFailure, what: str) -> None:
    r"""
    Warn or raise if samples of a solve failed.

    :param deepinv_equilibrium.Report report: the report of the solve.
    :param str on_failure: ``"warn"``, ``"raise"`` or ``"ignore"``.
    :param str what: name of the solve, with which the message starts.
    :raises ConvergenceError: if samples failed and ``on_failure="raise"``.
    """
    if on_failure == "ignore":
        return
    if report.failed_count == 0:
        return
    lines = [f"{what}: {report.failed_count} of {len(report.status)} samples failed."]
    for status in Status:
        samples = [i for i, other in enumerate(report.status) if other is status]
        if status.failed and samples:
            shown = ", ".join(map(str, samples[:8])) + (
                ", ..." if len(samples) > 8 else ""
            )
            lines.append(f"{status.name} (sample {shown}): {status.sentence}")
    message = "\n".join(lines)
    if on_failure == "raise":
        raise ConvergenceError(message, report)
    warnings.warn(message, ConvergenceWarning, stacklevel=3)
