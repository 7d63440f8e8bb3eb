"""The contract that solvers and adjoints are frozen values without tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from .contracts import require


def require_frozen_value(value: Any) -> None:
    r"""
    Raise an error unless an object is a frozen dataclass without tensors.

    :param value: a solver or an adjoint.
    :raises AssertionError: if it is not a frozen dataclass, holds a tensor, has no
        hash, differs from its copy, or does not show its class.
    """
    name = type(value).__name__
    require(
        dataclasses.is_dataclass(value) and "__dataclass_params__" in vars(type(value)),
        f"{name} is not a dataclass itself; decorate it with "
        "@dataclass(frozen=True, kw_only=True)",
    )
    field = next(iter(dataclasses.fields(value)), None)
    if field is not None:
        try:
            setattr(value, field.name, getattr(value, field.name))
        except dataclasses.FrozenInstanceError:
            pass
        else:
            raise AssertionError(f"{name} is not frozen: {field.name} can be set")
    for path, part in _parts(name, value):
        require(
            not isinstance(part, Tensor),
            f"{path} is a tensor; what is learned or measured belongs into the step, "
            "which closes over it",
        )
    twin = dataclasses.replace(value)
    require(twin == value, f"a copy of {value!r} is not equal to it")
    require(hash(twin) == hash(value), f"a copy of {value!r} has another hash")
    require(name in repr(value), f"repr gives {value!r}, which does not name {name}")


def _parts(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of an object, including those of its containers, with names."""
    yield path, value
    if dataclasses.is_dataclass(value):
        for name, part in vars(value).items():
            yield from _parts(f"{path}.{name}", part)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _parts(f"{path}[{key!r}]", part)
    elif isinstance(value, tuple | list | set | frozenset):
        for part in value:
            yield from _parts(f"{path}[...]", part)
