"""Warnings that point at the line of the user's code."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

_LIBRARIES = frozenset((__name__.partition(".")[0], "deepinv", "torch"))


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    r"""
    Issue a warning at the innermost line of the stack that is neither in this package
    nor in deepinv or torch, such as the call of ``Trainer.train``.

    Python's default filter shows a message once for each line, and an equal message at
    the same line not again.

    :param str message: the message.
    :param type category: class of the warning. Default: ``UserWarning``.
    """
    frame = sys._getframe(1)
    while _is_of_library(frame) and frame.f_back is not None:
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals.get("__name__", "<unknown>"),
        frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _is_of_library(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__") or ""
    return name.partition(".")[0] in _LIBRARIES
