"""A copy of a physics in double precision."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from deepinv.physics import LinearPhysics, Physics, StackedPhysics
from torch import Tensor, nn

P = TypeVar("P", bound=Physics)


def double_copy(physics: P) -> P:
    r"""
    Return a copy of a physics with tensors in float64 or complex128 and without graphs.

    ``physics.to(torch.float64)`` is no alternative: it drops the phase of a BlurFFT and
    skips the parts of a StackedPhysics. Nor is ``deepcopy`` alone: it fails on random
    generators and on tensors with a graph. The noise model is copied, too.

    :param deepinv.physics.Physics physics: the physics; unchanged.
    :return: the copy.
    """
    memo: dict[int, Any] = {}
    for module in _modules(physics):
        for value in _attributes(module):
            if isinstance(value, torch.Generator):
                memo[id(value)] = value
            elif isinstance(value, Tensor):
                memo[id(value)] = _double(value.detach()).clone()
    duplicate = copy.deepcopy(physics, memo)
    for module in _modules(duplicate):
        if vars(module).get("dtype") in (torch.float32, torch.float16, torch.bfloat16):
            vars(module)["dtype"] = torch.float64
        # The copy of a Tomography refers to the adjoint of the original.
        if "_auto_grad_adjoint_fn" in vars(module):
            vars(module)["_auto_grad_adjoint_fn"] = None
        if isinstance(module, LinearPhysics) and module.A_adj is None:
            module.A_adj = _Transpose(module)
    return duplicate


class _Transpose:
    """The adjoint by automatic differentiation in float64; deepinv's is in float32."""

    def __init__(self, physics: LinearPhysics):
        self.physics = physics

    def __call__(self, y: Tensor, **kwargs: Any) -> Tensor:
        if self.physics.img_size is None:
            raise ValueError(
                "the adjoint by differentiation needs img_size: set it on the physics."
            )
        shape = (y.shape[0], *self.physics.img_size)
        x = torch.ones(shape, dtype=torch.float64, device=y.device)
        with torch.enable_grad():
            return torch.func.vjp(self.physics.A, x)[1](y)[0]


def _modules(physics: nn.Module) -> Iterator[nn.Module]:
    for module in physics.modules():
        yield module
        if isinstance(module, StackedPhysics):  # its list is not a ModuleList
            for part in module.physics_list:
                yield from _modules(part)


def _attributes(module: nn.Module) -> Iterator[Any]:
    yield from vars(module).values()
    yield from module._buffers.values()
    yield from module._parameters.values()


def _double(x: Tensor) -> Tensor:
    if x.is_complex():
        return x.to(torch.complex128)
    return x.double() if x.is_floating_point() else x
