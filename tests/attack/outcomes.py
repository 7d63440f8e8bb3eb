"""The outcomes of a case: the bound holds, a named refusal, or a violation."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import deepinv_equilibrium as deq

T = TypeVar("T")
PACKAGE = str(Path(deq.__file__).parent)


class ViolationError(AssertionError):
    """A certified number is on the wrong side, a gradient is wrong, or an error has no
    name."""


class RefusedError(Exception):
    """The package refused the case by a named error."""


class VoidError(Exception):
    """torch or deepinv cannot run the case, which then tests nothing."""


def ask(function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """
    Return what a function of the package returns.

    :raises RefusedError: if it raises an error that the package names: a ValueError or
        TypeError with a message that was raised by a line of the package.
    :raises ViolationError: if it raises another error.
    """
    try:
        return function(*arguments, **options)
    except Exception as error:
        if is_named(error):
            raise RefusedError(str(error)) from error
        raise ViolationError(f"an error without a name: {error!r}") from error


def is_named(error: Exception) -> bool:
    """Return whether an error is one that the package raises with a message."""
    if not isinstance(error, ValueError | TypeError | NotImplementedError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return bool(str(error)) and frames[-1].filename.startswith(PACKAGE)


def run(function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Return what a function returns; raise VoidError if it raises."""
    try:
        return function(*arguments, **options)
    except Exception as error:
        raise VoidError(repr(error)) from error


def require(condition: bool, message: str) -> None:
    """
    Check a property of a case.

    :raises ViolationError: if the condition does not hold.
    """
    if not condition:
        raise ViolationError(message)


def require_at_most(
    truth: float, bound: float, message: str, slack: float = 1e-10
) -> None:
    """
    Check an upper bound, up to the rounding of the dense truth.

    :raises ViolationError: if the truth exceeds the bound or is NaN.
    """
    require(truth <= bound * (1 + slack) + 1e-300, f"{message}: {truth!r} > {bound!r}")
