"""Checks of arguments; each error names the argument, its value and what is allowed."""

from __future__ import annotations

import inspect
import math
from numbers import Integral, Real


def require_number(name: str, value: float) -> None:
    r"""
    Raise unless an argument is a real number.

    :param str name: name of the argument.
    :param float value: its value.
    :raises TypeError: if ``value`` is not a real number, or is a ``bool``.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}.")


def require_count(name: str, value: int, least: int) -> None:
    r"""
    Raise unless an argument is an integer of at least ``least``.

    :param str name: name of the argument.
    :param int value: its value.
    :param int least: the smallest value that is allowed.
    :raises ValueError: if ``value`` is not such an integer, or is a ``bool``.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}.")


def require_in_range(
    name: str, value: float, upper: float = math.inf, zero: bool = False
) -> None:
    r"""
    Raise unless an argument is in :math:`(0, u)`, or in :math:`[0, u)`.

    :param str name: name of the argument.
    :param float value: its value.
    :param float upper: the bound :math:`u`, which is not allowed itself. Default:
        infinity.
    :param bool zero: whether 0 is allowed. Default: ``False``.
    :raises TypeError: if ``value`` is not a real number.
    :raises ValueError: if ``value`` is outside the interval.
    """
    require_number(name, value)
    if not (0 < value < upper or (zero and value == 0)):
        bracket = "[" if zero else "("
        raise ValueError(f"{name} must be in {bracket}0, {upper:g}), got {value!r}.")


def require_instance(name: str, value: object, *bases: type) -> None:
    r"""
    Raise unless an argument is an instance of one of several base classes.

    :param str name: name of the argument.
    :param value: its value.
    :param bases: the base classes. The message lists the subclasses of each.
    :raises TypeError: if ``value`` is an instance of none of them.
    """
    if not isinstance(value, bases):
        choices = " or ".join(map(describe_subclasses, bases))
        raise TypeError(f"{name} must be {choices}, got {value!r}.")


def describe_subclasses(base: type) -> str:
    r"""
    Name a base class and its subclasses, for a message.

    :param type base: the base class.
    :return: (str) for example ``"an Adjoint (Implicit, Neumann)"``.
    """
    article = "an" if base.__name__[0] in "AEIOU" else "a"
    return f"{article} {base.__name__} ({', '.join(subclass_names(base))})"


def subclass_names(base: type) -> list[str]:
    r"""
    List the concrete public subclasses of a class, user-defined ones included.

    :param type base: the base class.
    :return: (list) the names of the subclasses that have been imported, sorted.
    """
    names: set[str] = set()
    subclasses: list[type] = base.__subclasses__()
    for subclass in subclasses:
        if not (inspect.isabstract(subclass) or subclass.__name__.startswith("_")):
            names.add(subclass.__name__)
        names.update(subclass_names(subclass))
    return sorted(names)
