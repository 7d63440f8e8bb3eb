"""States of a module for which no Lipschitz constant can be proved."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from ..declarations import UncertifiableModuleError

# torch's modules of these files are bounded for real images only: the complex tanh has
# poles.
_REAL = ("torch.nn.modules.activation", "torch.nn.modules.pooling")


def refuse_state(root: nn.Module) -> None:
    r"""
    Refuse a module whose current state excludes a bound.

    - A parameter or a buffer holds NaN or an infinity, or has no values (``meta``
      device, lazy layers). A setting of a layer of torch is NaN or infinite; the limits
      of :class:`torch.nn.Hardtanh` may be infinite.
    - The module has complex weights and an activation or a pooling layer of torch. Such
      a layer is bounded for real images only.
    - A layer is random or uses the statistics of the batch in its current mode.

    :param torch.nn.Module root: the module; its submodules are examined, too.
    :raises UncertifiableModuleError: if one of these is the case.
    """
    is_complex = False
    for module in root.modules():
        for name, tensor in _tensors(module):
            _refuse_values(module, name, tensor)
            is_complex |= tensor.is_complex()
        if type(module).__module__.startswith("torch.nn."):
            _refuse_settings(module)
        _refuse_mode(module)
    for module in root.modules():
        if is_complex and any(t.__module__ in _REAL for t in type(module).__mro__):
            raise UncertifiableModuleError(
                module,
                "it is bounded for real images only, and there are complex weights. "
                "Apply it to the real and the imaginary part, or declare a rule.",
            )


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and buffers of a module, without those of its children."""
    yield from module.named_parameters(recurse=False)
    yield from module.named_buffers(recurse=False)


def _refuse_values(module: nn.Module, name: str, tensor: Tensor) -> None:
    if nn.parameter.is_lazy(tensor) or tensor.is_meta:
        raise UncertifiableModuleError(
            module,
            f"its {name} has no values yet. Run a lazy layer once; move a module from "
            "the meta device by to_empty and load its weights.",
        )
    if not torch.isfinite(tensor).all():
        raise UncertifiableModuleError(
            module, f"its {name} holds an infinity or a NaN."
        )


def _refuse_settings(module: nn.Module) -> None:
    for name, value in vars(module).items():
        values = value if isinstance(value, tuple | list) else (value,)
        if any(isinstance(v, float) and not _is_allowed(module, v) for v in values):
            raise UncertifiableModuleError(module, f"its {name} is {value!r}.")


def _is_allowed(module: nn.Module, value: float) -> bool:
    return math.isfinite(value) or (
        isinstance(module, nn.Hardtanh) and not math.isnan(value)
    )


def _refuse_mode(module: nn.Module) -> None:
    if isinstance(module, _BatchNorm):
        if module.training or module.running_var is None:
            raise UncertifiableModuleError(
                module,
                "it normalises by the statistics of the batch. Call eval(), with "
                "track_running_stats=True.",
            )
    elif isinstance(module, _DropoutNd):
        if module.training and module.p > 0:
            raise UncertifiableModuleError(
                module, "it is random in train mode. Call eval()."
            )
    elif isinstance(module, nn.RReLU) and module.training:
        raise UncertifiableModuleError(module, "its slope is random. Call eval().")
