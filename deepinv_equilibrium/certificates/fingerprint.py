"""What a certificate was made for, so that it can tell when that has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

# What a run leaves behind, and what it is solved with: neither changes the step.
_NOT_OF_THE_STEP = {"training", "has_converged", "max_iter", "solver", "tol", "verbose"}


def fingerprint(module: nn.Module) -> dict[str, str]:
    r"""
    Digests of what determines a module's map: types, parameters, buffers, and
    attributes that are tensors, floats, booleans, strings, or sequences and
    dictionaries of these and of integers. Integers by themselves are counters more
    often than not, and left out, and so are the noise model of a physics and attributes
    whose name begins with an underscore. Moving a module to another device, or to a
    wider dtype, changes nothing.

    :param torch.nn.Module module: a model or a physics.
    :return: digests by qualified name.
    """
    entries: dict[str, str] = {}
    for prefix, part in module.named_modules():
        if "noise_model" in prefix.split("."):
            continue
        entries[prefix or "(itself)"] = type(part).__qualname__
        values = {**vars(part), **part._parameters, **part._buffers}
        for name, value in values.items():
            if not name.startswith("_") and name not in _NOT_OF_THE_STEP:
                entries.update(_digests(f"{prefix}.{name}".lstrip("."), value))
    return entries


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Names whose digests differ, or that only one of them has."""
    names = dict.fromkeys((*before, *after))
    return [name for name in names if before.get(name) != after.get(name)]


def _digests(name: str, value: Any, inside: bool = False) -> Iterator[tuple[str, str]]:
    if isinstance(value, Tensor):
        yield name, _tensor_digest(value)
    elif isinstance(value, float | bool | str) or (inside and isinstance(value, int)):
        yield name, repr(value)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _digests(f"{name}.{index}", item, inside=True)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _digests(f"{name}.{key}", item, inside=True)


def _tensor_digest(value: Tensor) -> str:
    value = value.detach().cpu()
    if value.is_complex():
        value = torch.view_as_real(value)
    data = value.double().contiguous().numpy().tobytes()
    return f"{tuple(value.shape)} {hashlib.blake2b(data, digest_size=16).hexdigest()}"
