"""Autocast applies to the evaluations of a step, not to the algebra of a solver."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .state import State, StateLayout

_HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Autocast:
    r"""
    The setting of ``torch.autocast`` under which a fixed point was asked for.

    The step is evaluated under this setting, so that its networks compute in half
    precision. States, the algebra of solvers and adjoints, and the operators of the
    physics stay in single or double precision: autocast would also convert the matrix
    products of a solver.

    :param str device_type: device of the states, such as ``"cuda"``.
    :param torch.dtype dtype: ``torch.bfloat16`` or ``torch.float16``.
    """

    device_type: str
    dtype: torch.dtype

    @classmethod
    def active(cls, device: torch.device) -> Autocast | None:
        """Return the setting that is active on a device; ``None`` without autocast."""
        if not torch.is_autocast_enabled(device.type):
            return None
        return cls(device.type, torch.get_autocast_dtype(device.type))

    @property
    def eps(self) -> float:
        """Unit of rounding of the dtype."""
        return torch.finfo(self.dtype).eps

    @property
    def scales_losses(self) -> bool:
        """Whether the range of the dtype is so small that losses are scaled, as by
        ``torch.amp.GradScaler``."""
        return self.dtype is torch.float16

    def resumed(self) -> torch.autocast:
        """Return a context in which the setting is active."""
        return torch.autocast(self.device_type, self.dtype)

    def suspended(self) -> torch.autocast:
        """Return a context in which autocast is disabled."""
        return torch.autocast(self.device_type, enabled=False)


def widen(value: Tensor) -> Tensor:
    """Return a tensor of half precision in float32, and any other tensor unchanged."""
    return value.float() if value.dtype in _HALF else value


def widen_layout(layout: StateLayout) -> StateLayout:
    """Return a layout with float32 in the place of half precision."""
    dtypes = (torch.float32 if t in _HALF else t for t in layout.dtypes)
    return replace(layout, dtypes=tuple(dtypes))


def widen_state(state: State, layout: StateLayout) -> State:
    """Convert components of half precision to the precision of a layout."""
    real = layout.dtypes[0].to_real()
    if isinstance(state, tuple):
        return tuple(_to(component, real) for component in state)
    return _to(state, real)


def _to(component: Tensor, dtype: torch.dtype) -> Tensor:
    # A value that is not a tensor is refused with its type by StateLayout.check.
    half = isinstance(component, Tensor) and component.dtype in _HALF
    return component.to(dtype) if half else component
