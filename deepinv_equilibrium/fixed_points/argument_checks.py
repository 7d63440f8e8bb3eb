"""TODO."""

from __future__ import annotations

import math
from numbers import Integral, Real


def require_number(name: str, value: float) -> None:
    """Refuse anything but a real number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}.")


def require_count(name: str, value: int, least: int) -> None:
    """Refuse anything but an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}.")


def require_in_range(
    name: str, value: float, upper: float = math.inf, zero: bool = False
) -> None:
    r"""
    :param str name: name of the argument.
    :param float value: its value.
    :param float upper: the value must be less.
    :param bool zero: whether it may be 0, not only positive.
    :raises TypeError: if it is no number.
    :raises ValueError: if it is outside.
    """
    require_number(name, value)
    if not (0 < value < upper or (zero and value == 0)):
        bracket = "[" if zero else "("
        raise ValueError(f"{name} must be in {bracket}0, {upper:g}), got {value!r}.")
