"""Copies of modules that hold random number generators."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def copy_module(module: Module) -> Module:
    r"""
    A deep copy. ``copy.deepcopy`` refuses the :class:`torch.Generator` of a noise
    model in older versions of torch; ``clone`` of deepinv's physics copies it too, but
    looks at every object that can be reached from the physics, through the globals of
    its functions most of the interpreter.

    :param torch.nn.Module module: the module.
    :return: (:class:`torch.nn.Module`) the copy, with generators of its own in the same
        states.
    """
    memo: dict[int, torch.Generator] = {}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Generator):
                generator = torch.Generator(value.device)
                generator.set_state(value.get_state())
                memo[id(value)] = generator
    return copy.deepcopy(module, memo)
