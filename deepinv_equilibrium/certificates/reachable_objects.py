"""The objects that a model or a physics refers to, each with its name."""

from __future__ import annotations

import functools
import logging
import random
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, TypeAlias

import numpy as np
import torch
from deepinv.optim import BaseOptim
from deepinv.optim.fixed_point import FixedPoint
from deepinv.physics import Physics
from torch import Tensor, nn

Member: TypeAlias = tuple[str, Any]

PLAIN: tuple[type, ...] = (
    *(type(None), bool, int, float, complex, str, bytes, slice, range),
    *(type(...), np.generic, np.dtype, Enum, torch.dtype, torch.layout),
    torch.memory_format,
)
"""Types whose ``repr`` is their value."""

UNREAD: tuple[type, ...] = (
    *(ModuleType, torch.device, torch.Generator, np.random.Generator, random.Random),
    *(np.random.RandomState, np.ufunc, BuiltinFunctionType, logging.Logger, type),
    *(weakref.ref, GetSetDescriptorType, MemberDescriptorType),
)
"""Types whose objects have no state that a deterministic step reads, or that can
change."""

HOOKS: tuple[str, ...] = ("_forward_hooks", "_forward_pre_hooks")
HOOKS += ("_backward_hooks", "_backward_pre_hooks")
_READ: tuple[type, ...] = (np.ndarray, FunctionType, MethodType, functools.partial)
_READ += (nn.Module, Mapping, Sequence, AbstractSet, staticmethod, classmethod)
_READ += (property,)
_OF_TORCH = {*vars(nn.Module()), "_compiled_call_impl"}

# Attributes that a run changes, and settings of solvers: the step does not depend on
# them. A class of this package lists its own in ``run_state``.
_RUN_STATE: dict[type, set[str]] = {
    Physics: {
        *("noise_model", "solver", "max_iter", "tol"),
        *("_auto_grad_adjoint_fn", "_device_holder"),
    },
    BaseOptim: {"has_converged", "max_iter", "verbose", "show_progress_bar"},
    FixedPoint: {"max_iter", "verbose", "show_progress_bar", "backtracking_check"},
}
_LIBRARIES = {"torch", "numpy", "scipy", "deepinv", "deepinv_equilibrium"}


def reachable(root: Any, name: str = "") -> Iterator[Member]:
    r"""
    Yield each object that a root refers to, with its qualified name: the root itself,
    the values of attributes, elements of containers, parameters, buffers and hooks,
    variables in closures, defaults and global variables of functions, the objects of
    bound methods, and the attributes of user-defined classes.

    The noise model of a physics, settings of solvers and attributes that a run changes
    are left out. An object with several names is yielded under the first one, unless it
    is a number, a string, a tensor or an array.

    :param object root: the root.
    :param str name: its name.
    """
    # The values keep the objects alive, so that no identifier is used twice.
    seen: dict[int, Any] = {}
    pending: list[Member] = [(name, root)]
    while pending:
        label, value = pending.pop()
        if not isinstance(value, (*PLAIN, Tensor, np.ndarray)):
            if id(value) in seen:
                continue
            seen[id(value)] = value
        yield label, value
        pending += [
            (f"{label}.{key}".lstrip("."), member)
            for key, member in reversed(members(value))
        ]


def members(value: Any) -> list[Member]:
    """Return the objects to which an object refers directly, with their names."""
    if isinstance(value, (*PLAIN, *UNREAD, Tensor)):
        return []
    if isinstance(value, np.ndarray):
        return list(_numbered(value.ravel())) if value.dtype.hasobject else []
    if isinstance(value, FunctionType):
        return list(_of_function(value))
    if isinstance(value, MethodType):
        return [("__self__", value.__self__), ("__func__", value.__func__)]
    if isinstance(value, functools.partial):
        names = ("func", "args", "keywords")
        return [(name, getattr(value, name)) for name in names]
    if isinstance(value, staticmethod | classmethod):
        return [("__func__", value.__func__)]
    if isinstance(value, property):
        return [("fget", value.fget)]
    found: list[Member] = []
    if isinstance(value, nn.Module):
        found += _of_module(value)
    elif isinstance(value, Mapping):
        found += [(str(key), item) for key, item in value.items()]
    elif isinstance(value, Sequence):
        found += _numbered(value)
    elif isinstance(value, AbstractSet):
        found += _numbered(sorted(value, key=repr))
    elif not hasattr(value, "__dict__"):
        found += _slots(value) or _numbered(_reduced(value) or ())
    else:
        found += _slots(value)
    found += [
        (key, item)
        for key, item in getattr(value, "__dict__", {}).items()
        if not (isinstance(value, nn.Module) and key in _OF_TORCH)
    ]
    value_type: Any = type(value)
    skipped = run_state(value_type)
    known = {key for key, _ in found}
    found += [(k, item) for k, item in _of_class(type(value)) if k not in known]
    return [(key, item) for key, item in found if key not in skipped]


def is_hidden(value: Any) -> bool:
    """Return whether an object has a state that neither its attributes nor pickle
    show."""
    if isinstance(value, Tensor):
        return value.is_meta
    if isinstance(value, (*PLAIN, *UNREAD, *_READ)) or hasattr(value, "__dict__"):
        return False
    return not _slots(value) and _reduced(value) is None


@functools.cache
def run_state(part_type: type) -> frozenset[str]:
    """Return the attributes of the objects of a type that a run changes, or that the
    step does not depend on."""
    names: set[str] = set()
    for base in part_type.__mro__:
        names |= _RUN_STATE.get(base, set()) | set(vars(base).get("run_state", ()))
    return frozenset(names | {"run_state"} if names else names)


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module that ``torch.compile`` has wrapped, or the module itself."""
    wrapped = "torch._dynamo.eval_frame"
    if type(module).__module__ == wrapped and "_orig_mod" in module._modules:
        inner = module._modules["_orig_mod"]
        assert inner is not None
        return inner
    return module


@functools.cache
def reads_mode(module_type: type) -> bool:
    """Return whether a method of a module reads its mode, train or eval."""
    return any(
        isinstance(value, FunctionType) and _mentions_training(value.__code__)
        for base in module_type.__mro__
        if base is not nn.Module
        for value in vars(base).values()
    )


def is_library(name: str) -> bool:
    """Return whether a module of this name is one of torch, deepinv, this package or
    the standard library: its functions and classes do not change."""
    top = name.partition(".")[0]
    return (top in _LIBRARIES or top in sys.stdlib_module_names) and top != "__main__"


def _mentions_training(code: CodeType) -> bool:
    return "training" in (*code.co_names, *code.co_consts) or any(
        _mentions_training(part)
        for part in code.co_consts
        if isinstance(part, CodeType)
    )


def _numbered(items: Any) -> Iterator[Member]:
    return ((str(index), item) for index, item in enumerate(items))


def _of_module(module: nn.Module) -> Iterator[Member]:
    inner = unwrapped(module)
    if inner is not module:
        yield "_orig_mod", inner
        return
    module_type: Any = type(module)
    if reads_mode(module_type):
        yield "training", module.training
    yield from module._parameters.items()
    yield from module._buffers.items()
    yield from ((name, vars(module)[name]) for name in HOOKS)
    yield from module._modules.items()


def _of_function(function: FunctionType) -> Iterator[Member]:
    for name, cell in zip(
        function.__code__.co_freevars, function.__closure__ or (), strict=True
    ):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    yield from _numbered(function.__defaults__ or ())
    yield from (function.__kwdefaults__ or {}).items()
    if is_library(function.__module__ or ""):
        return
    for name in _global_names(function.__code__):
        value = function.__globals__.get(name)
        if isinstance(value, _READ_GLOBALS):
            yield name, value


_READ_GLOBALS: tuple[type, ...] = (bool, int, float, complex, str, np.generic)
_READ_GLOBALS += (np.ndarray, Tensor, nn.Module, FunctionType, list, tuple, dict)


def _global_names(code: CodeType) -> list[str]:
    names = list(code.co_names)
    for part in code.co_consts:
        if isinstance(part, CodeType):
            names += _global_names(part)
    return list(dict.fromkeys(names))


def _of_class(part_type: type) -> Iterator[Member]:
    """Yield the attributes of user-defined classes: their objects look them up."""
    for base in part_type.__mro__:
        if is_library(base.__module__):
            continue
        for name, value in vars(base).items():
            if name == "__call__" or not (name.startswith("__") or name == "_abc_impl"):
                yield name, value


def _slots(value: Any) -> list[Member]:
    found = []
    for base in type(value).__mro__:
        names = vars(base).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found.append((name, getattr(value, name)))
    return found


def _reduced(value: Any) -> tuple[Any, ...] | None:
    """Return what pickle would store of an object, or ``None`` if it refuses."""
    try:
        parts = value.__reduce_ex__(4)
    except Exception:  # noqa: BLE001, a user's class may raise anything
        return None
    return parts if isinstance(parts, tuple) else (parts,)


def defined_functions(part_type: type) -> Iterator[tuple[str, FunctionType]]:
    """Yield the functions that the classes of an object define, below ``nn.Module``."""
    for base in part_type.__mro__:
        if base in (nn.Module, object):
            continue
        for name, value in vars(base).items():
            function = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if isinstance(function, FunctionType):
                yield f"{base.__qualname__}.{name}", function
