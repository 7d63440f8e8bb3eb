"""What a certificate was made for, so that it can tell when that has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

# What a run leaves behind, and what it is solved with: neither changes the step.
_NOT_OF_THE_STEP = {
    *("training", "has_converged", "max_iter", "solver", "tol", "verbose"),
    *("_auto_grad_adjoint_fn", "_compiled_call_impl"),
}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
# Layers of another map in train mode.
_OF_TWO_MODES = (_NormBase, _DropoutNd, nn.RReLU)
# Where an integer is a setting: elsewhere it is a counter more often than not.
_LIBRARIES = ("torch.nn.", "deepinv.")


def fingerprint(module: nn.Module) -> dict[str, str]:
    r"""
    Digests of what determines a module's map: types, parameters, buffers, and
    attributes that are tensors, arrays, floats, booleans, strings, or sequences and
    dictionaries of these, of integers and of modules; functions that are attributes
    (their name and place, not what they close over) and forward hooks; the mode of
    normalisation and dropout layers. Integers by themselves count in the modules of
    torch and deepinv; elsewhere they are counters more often than not. The noise model
    of a physics is left out, and so are attributes whose name begins with an underscore
    unless they are functions. Moving a module to another device, or to a wider dtype,
    changes nothing.

    :param torch.nn.Module module: a model or a physics.
    :return: digests by qualified name.
    """
    return dict(_entries("", module))


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Names whose digests differ, or that only one of them has."""
    names = dict.fromkeys((*before, *after))
    return [name for name in names if before.get(name) != after.get(name)]


def _entries(root: str, module: nn.Module) -> Iterator[tuple[str, str]]:
    for name, part in module.named_modules(prefix=root):
        if "noise_model" in name.split("."):
            continue
        yield name or "(itself)", type(part).__qualname__
        if isinstance(part, _OF_TWO_MODES):
            yield f"{name}.training".lstrip("."), repr(part.training)
        settings = type(part).__module__.startswith(_LIBRARIES)
        for key, value in (vars(part) | part._parameters | part._buffers).items():
            hidden = key.startswith("_") and not callable(value) and key not in _HOOKS
            if not hidden and key not in _NOT_OF_THE_STEP:
                yield from _digests(f"{name}.{key}".lstrip("."), value, settings)


def _digests(name: str, value: Any, integers: bool) -> Iterator[tuple[str, str]]:
    if isinstance(value, nn.Module):
        yield from _entries(name, value)
    elif isinstance(value, Tensor):
        yield name, _tensor_digest(value)
    elif isinstance(value, np.ndarray):
        yield name, _digest(value.shape, value.tobytes())
    elif isinstance(value, bool | float | complex | str):
        yield name, repr(value)
    elif isinstance(value, int):
        if integers:
            yield name, repr(value)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _digests(f"{name}.{index}", item, integers=True)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _digests(f"{name}.{key}", item, integers=True)
    elif callable(value):
        yield name, _place(value)


def _place(function: Callable[..., Any]) -> str:
    """Where a function was written; of another callable the type."""
    inner = getattr(function, "__func__", function)
    place = getattr(inner, "__qualname__", type(inner).__qualname__)
    line = getattr(getattr(inner, "__code__", None), "co_firstlineno", "")
    return f"{getattr(inner, '__module__', '')}.{place}:{line}"


def _tensor_digest(value: Tensor) -> str:
    value = value.detach().cpu().resolve_conj().resolve_neg()
    if value.is_complex():
        value = torch.view_as_real(value)
    return _digest(tuple(value.shape), value.double().contiguous().numpy().tobytes())


def _digest(shape: tuple[int, ...], data: bytes) -> str:
    return f"{shape} {hashlib.blake2b(data, digest_size=16).hexdigest()}"
