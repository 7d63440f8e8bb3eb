"""Digests of models and physics, by which a certificate notices changes."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping
from types import FunctionType
from typing import Any

import numpy as np
import torch
from deepinv.physics import Physics
from torch import Tensor, nn

from .reachable_objects import (
    PLAIN,
    UNREAD,
    defined_functions,
    is_hidden,
    is_library,
    reachable,
)

_HIDDEN = "hidden"


def fingerprint(module: nn.Module) -> dict[str, str]:
    r"""
    Return digests of what determines the map of a module.

    The digests cover all objects that the module refers to, see
    :func:`~deepinv_equilibrium.certificates.reachable_objects.reachable`:

    - types and the functions of their classes, parameters, buffers and hooks;
    - attributes of modules and of other objects, with or without an underscore:
      numbers, strings, tensors, arrays, and sequences, dictionaries, sets and objects
      of these;
    - functions, by their code, defaults, closures and global variables, and the objects
      of bound methods;
    - the mode (train or eval) of each module whose class reads it.

    They do not cover the noise model of a physics, settings of solvers, attributes that
    a run changes, and random generators. A class lists further attributes that a run
    changes in its attribute ``run_state``. Moving the module to another device changes
    no digest, and :func:`changed_names` passes over a move from float32 to float64.

    :param torch.nn.Module module: a model or a physics.
    :return: the digests by qualified name.
    """
    digests: dict[str, str] = {}
    known: dict[Any, str] = {}
    kept = []  # an identifier is unique only while its object lives
    for name, value in reachable(module):
        key = type(value) if _has_type(value) else id(value)
        if isinstance(value, PLAIN):
            text: str | None = repr(value)
        elif key in known:
            text = known[key]
        else:
            text = _digest(value)
            kept.append(value)
            if text is not None:
                known[key] = text
        if text is not None:
            label = name or "(itself)"
            while label in digests:
                label += "'"
            digests[label] = text
    return digests


def problem_fingerprint(model: nn.Module, physics: Physics) -> dict[str, str]:
    """Return digests of a model, of its number of layers and of a physics."""
    digests = {f"model.{k}": v for k, v in fingerprint(model).items()}
    digests.update({f"physics.{k}": v for k, v in fingerprint(physics).items()})
    layers = getattr(getattr(model, "DEQ", None), "layers", None)
    return {**digests, "model.DEQ.layers": str(layers)}


def changed_names(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return the names whose digests differ, other than by a higher precision, or that
    only one fingerprint contains."""
    names = dict.fromkeys((*before, *after))
    return [
        name
        for name in names
        if not _holds_still(before.get(name, ""), after.get(name, ""))
    ]


def _holds_still(before: str, after: str) -> bool:
    if before == after:
        return True
    (value, mark, bits), (new, _, more) = before.rpartition("@"), after.rpartition("@")
    # The digest of a string is its repr, which ends in a quotation mark.
    return bool(mark) and value == new and (bits + more).isdigit() and bits < more


def hidden_parts(digests: Mapping[str, str]) -> dict[str, str]:
    """Return the names and types of the objects whose state a fingerprint cannot
    read."""
    return {
        name: text.removeprefix(f"{_HIDDEN} ")
        for name, text in digests.items()
        if text.startswith(f"{_HIDDEN} ")
    }


def _has_type(value: Any) -> bool:
    """Whether the digest of an object is that of its type; its attributes follow."""
    return not isinstance(value, (*PLAIN, *UNREAD, Tensor, np.ndarray, FunctionType))


def _digest(value: Any) -> str | None:
    """Return the digest of an object without its members, or ``None`` for a container
    whose members have all digests."""
    if isinstance(value, Tensor) and not value.is_meta:
        return _tensor_digest(value)
    if isinstance(value, np.ndarray):
        data = b"" if value.dtype.hasobject else value.tobytes()
        return _hashed(f"{value.shape} {value.dtype}", data)
    if isinstance(value, FunctionType):
        return _place(value)
    if isinstance(value, type):
        return _type_name(value)
    if is_hidden(value):
        return f"{_HIDDEN} {_type_name(type(value))}"
    if type(value) in (dict, list, tuple, set, frozenset, OrderedDict):
        return None
    name = getattr(value, "__name__", "")  # of a builtin function or a module
    places = [
        f"{key} {_place(function)}" for key, function in defined_functions(type(value))
    ]
    return f"{_type_name(type(value))} {name} {_hashed('', repr(places).encode())}"


def _type_name(value: type) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _place(function: FunctionType) -> str:
    """Return name and line of a function's definition, and a digest of the code of a
    user-defined function."""
    code = function.__code__
    place = f"{function.__module__}.{function.__qualname__}:{code.co_firstlineno}"
    if is_library(function.__module__ or ""):
        return place
    return f"{place} {_hashed('', _code(code))}"


def _code(code: Any) -> bytes:
    constants = [
        _code(c).hex() if hasattr(c, "co_code") else repr(c) for c in code.co_consts
    ]
    return code.co_code + repr((code.co_names, constants)).encode()


def _tensor_digest(value: Tensor) -> str:
    value = value.detach()
    if value.layout is torch.sparse_coo:
        value = value.coalesce()
        return f"{_tensor_digest(value.indices())} {_tensor_digest(value.values())}"
    if value.layout is not torch.strided:
        value = value.to_dense()
    value = value.cpu().resolve_conj().resolve_neg()
    if value.is_complex():
        value = torch.view_as_real(value)
    shape, precision = f"{tuple(value.shape)}", ""
    if value.is_floating_point():
        # An upper bound of the rounding in one precision holds in a higher one.
        precision = f"@{-int(math.log2(torch.finfo(value.dtype).eps)):02d}"
    if value.dtype is torch.float64 and torch.equal(value.float().double(), value):
        value = value.float()  # a tensor in float32 that was moved to float64
    elif value.dtype in (torch.float16, torch.bfloat16):
        value = value.float()
    return _hashed(shape, value.contiguous().view(-1).numpy().data) + precision


def _hashed(label: str, data: Any) -> str:
    return f"{label} {hashlib.blake2b(data, digest_size=16).hexdigest()}".lstrip()
