"""The parts of a model that deepinv distributes over processes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch.distributed as dist
from deepinv.distributed.framework import (
    DistributedDataFidelity,
    DistributedProcessing,
    DistributedStackedPhysics,
)
from torch import nn

from ..fixed_points import ALONE, Processes

_DISTRIBUTED = (
    DistributedDataFidelity,
    DistributedProcessing,
    DistributedStackedPhysics,
)


def processes_of(parts: Iterable[Any]) -> Processes:
    r"""
    Return the processes that evaluate some parts of a step together.

    :param Iterable parts: the model and the physics. Of a module, its submodules count
        as well.
    :return: (Processes) all processes, if ``deepinv.distributed.distribute`` has
        distributed one of the parts over more than one process; otherwise this process
        alone.
    """
    modules = (part.modules() for part in parts if isinstance(part, nn.Module))
    distributed = any(
        isinstance(module, _DISTRIBUTED)
        and module.ctx.use_dist
        and module.ctx.world_size > 1
        for module in chain.from_iterable(modules)
    )
    return Processes(dist.group.WORLD) if distributed else ALONE
