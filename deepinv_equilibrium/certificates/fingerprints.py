"""Digests of models and physics, by which a certificate notices changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from deepinv.physics import Physics
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

# Attributes that a run changes, and settings of solvers: the step does not depend on
# them.
_IRRELEVANT = {
    *("training", "has_converged", "max_iter", "solver", "tol", "verbose"),
    *("_auto_grad_adjoint_fn", "_compiled_call_impl"),
}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
# Layers that compute different maps in train mode and in eval mode.
_MODE_DEPENDENT = (_NormBase, _DropoutNd, nn.RReLU)
# In modules of these packages integers are settings; elsewhere most are counters.
_LIBRARIES = ("torch.nn.", "deepinv.")


def fingerprint(module: nn.Module) -> dict[str, str]:
    r"""
    Return digests of what determines the map of a module.

    The digests cover

    - types, parameters, buffers and forward hooks;
    - attributes that are tensors, arrays, floats, booleans or strings, and sequences
      and dictionaries of these, of integers and of modules;
    - attributes that are functions, by name and line of definition; variables in their
      closures are not covered;
    - single integers in modules of torch and deepinv; in other modules most of them are
      counters;
    - the mode (train or eval) of normalisation and dropout layers.

    They do not cover the noise model of a physics, nor attributes whose names begin
    with an underscore, unless they are functions. Moving the module to another device
    or to a wider dtype changes no digest.

    :param torch.nn.Module module: a model or a physics.
    :return: the digests by qualified name.
    """
    return dict(_entries("", module))


def problem_fingerprint(model: nn.Module, physics: Physics) -> dict[str, str]:
    """Return digests of a model, of its number of layers and of a physics."""
    digests = {f"model.{k}": v for k, v in fingerprint(model).items()}
    digests.update({f"physics.{k}": v for k, v in fingerprint(physics).items()})
    layers = getattr(getattr(model, "DEQ", None), "layers", None)
    return {**digests, "model.DEQ.layers": str(layers)}


def changed_names(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return the names whose digests differ or that only one fingerprint contains."""
    names = dict.fromkeys((*before, *after))
    return [name for name in names if before.get(name) != after.get(name)]


def _entries(root: str, module: nn.Module) -> Iterator[tuple[str, str]]:
    for name, part in module.named_modules(prefix=root):
        if "noise_model" in name.split("."):
            continue
        yield name or "(itself)", type(part).__qualname__
        if isinstance(part, _MODE_DEPENDENT):
            yield f"{name}.training".lstrip("."), repr(part.training)
        settings = type(part).__module__.startswith(_LIBRARIES)
        for key, value in (vars(part) | part._parameters | part._buffers).items():
            hidden = key.startswith("_") and not callable(value) and key not in _HOOKS
            if not hidden and key not in _IRRELEVANT:
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
    """Return name and line of a function's definition, or the type of a callable."""
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
