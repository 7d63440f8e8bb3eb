"""The weight that a module uses."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ..declarations import UncertifiableModuleError


def effective_weight(module: nn.Module, name: str = "weight") -> Tensor:
    r"""
    A parameter or buffer of a module, its parametrisations applied, detached.

    :param torch.nn.Module module: the module, left as it was.
    :param str name: name of the parameter or buffer.
    :raises UncertifiableModuleError: if it changes from one use to the next, or is not
        finite.
    """
    with torch.no_grad():
        buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
        value = getattr(module, name).clone()
        changes = is_parametrized(module, name) and not torch.equal(
            value, getattr(module, name)
        )
        if changes:
            for buffer, before in buffers:
                buffer.copy_(before)
    if not torch.isfinite(value).all():
        raise UncertifiableModuleError(
            module, f"its {name} holds an infinity or a NaN."
        )
    if changes:
        raise UncertifiableModuleError(
            module,
            f"its {name} changes at every use: a parametrisation is random, or in "
            "train mode. Call eval().",
        )
    return value
