"""Checks of arguments; each error names the argument, its value and what is allowed."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any


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


def refuse_unknown(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    r"""
    Refuse unknown names of arguments, and suggest the closest known one.

    :param str what: the callable, for the message.
    :param Iterable given: names of the arguments that were given.
    :param Iterable known: names of the arguments that the callable takes.
    :raises TypeError: if a name is unknown.
    """
    known = list(known)
    for name in given:
        if name not in known:
            raise TypeError(
                f"{what} takes no argument {name!r}{closest_names(name, known)}"
            )


def closest_names(name: str, known: Sequence[str]) -> str:
    r"""
    Return the end of a message about an unknown name.

    :param str name: the unknown name.
    :param Sequence known: the known names.
    :return: (str) the closest known name if there is one, and all known names.
    """
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{hint} It has: {', '.join(known)}."


class _ConstructorSignature:
    """The signature of ``__init__``, which a class with ``__new__`` would hide."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        # mypy warns of a call to __init__ on a class; only the signature is read.
        signature = inspect.signature(owner.__init__)  # type: ignore[misc]
        return signature.replace(parameters=[*signature.parameters.values()][1:])


class SuggestsArguments:
    """Mixin that refuses a misspelt keyword argument of the constructor of any
    subclass, and suggests the right one."""

    __signature__: Any = _ConstructorSignature()

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Check the names of the keyword arguments."""
        parameters = inspect.signature(cls).parameters
        if all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
            refuse_unknown(cls.__name__, kwargs, parameters)
        return super().__new__(cls)


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
