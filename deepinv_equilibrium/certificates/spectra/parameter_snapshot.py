"""A copy of a physics that keeps its current parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

from deepinv.physics import Physics
from torch import Tensor, nn

P = TypeVar("P", bound=Physics)


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def parameter_snapshot(physics: P, replace: Callable[[Tensor], Tensor] = _itself) -> P:
    r"""
    Return a copy of a physics that shares its tensors.

    ``physics.update(...)`` and assignments to attributes of the physics and of its
    parts do not change the copy, nor the other way round. The tensors keep their
    graphs, so that gradients reach the parameters of the physics. Writes into a tensor
    change both. ``copy.copy`` alone shares the dictionaries of parameters as well.

    :param deepinv.physics.Physics physics: the physics; unchanged.
    :param Callable replace: returns what the copy has in place of a tensor. Default:
        the tensor itself.
    :return: the copy.
    """
    copies: dict[int, nn.Module] = {}
    duplicate: P = _copied(physics, copies, replace)
    return duplicate


def _copied(
    value: Any, copies: dict[int, nn.Module], replace: Callable[[Tensor], Tensor]
) -> Any:
    """Copy modules, and lists and tuples of them; replace tensors, and return any other
    value itself."""
    if isinstance(value, Tensor):
        return replace(value)
    if type(value) in (list, tuple) and any(isinstance(v, nn.Module) for v in value):
        return type(value)(_copied(item, copies, replace) for item in value)
    if not isinstance(value, nn.Module):
        return value
    if id(value) not in copies:
        duplicate = copies[id(value)] = copy.copy(value)
        state = vars(duplicate)
        for name in ("_parameters", "_buffers", "_modules"):
            state[name] = {
                k: _copied(v, copies, replace) for k, v in state[name].items()
            }
        for name, item in state.items():
            state[name] = _copied(item, copies, replace)
    return copies[id(value)]
