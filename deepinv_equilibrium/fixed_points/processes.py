"""Processes that evaluate one step together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Processes:
    r"""
    The processes that evaluate one step together, as ``deepinv.distributed`` does.

    Every process holds the same state and solves the same problem, but evaluates other
    parts of the step, such as other operators of the physics or other patches of the
    image. Three rules follow.

    - **Products are averaged.** The backward of a collective operation sums the
      cotangents of all :math:`R` processes. In deepinv's convention the cotangents
      :math:`v_r` of the processes differ, and their mean is the right one. A
      vector-Jacobian product is linear, so that it maps the mean to the mean. A Krylov
      method is not linear, and needs the mean itself.
    - **Decisions are made once.** The processes differ by rounding. A process that
      stopped before the others would leave them waiting in a collective operation, so
      that the first process decides for all.
    - **Gradients of shared parameters are averaged**, see :meth:`share`.

    Processes that solve problems of their own, as in ``DistributedDataParallel``, do
    not cooperate in this sense.

    :param torch.distributed.ProcessGroup group: the processes. Default: ``None``, this
        process alone; the methods then return their arguments.
    """

    group: dist.ProcessGroup | None = None

    @property
    def cooperate(self) -> bool:
        """Whether there is more than one process."""
        return self.group is not None

    def average(self, tensor: Tensor) -> Tensor:
        """Return the mean of a tensor over the processes, without gradient."""
        if self.group is None:
            return tensor
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=self.group)
        return total / dist.get_world_size(self.group)

    def agree(self, tensor: Tensor) -> Tensor:
        """Return the tensor of the first process, without gradient."""
        if self.group is None:
            return tensor
        # Not all backends send booleans.
        sent = tensor.byte() if tensor.dtype == torch.bool else tensor.detach()
        sent = sent.clone(memory_format=torch.contiguous_format)
        dist.broadcast(sent, dist.get_global_rank(self.group, 0), group=self.group)
        return sent.to(tensor.dtype)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Return whether a flag is true in one of the processes."""
        if self.group is None:
            return flag
        return bool(self.average(torch.tensor(float(flag), device=device)) > 0)

    def share(self, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
        r"""
        Return copies of parameters whose gradients are averaged over the processes.

        The average is one collective operation in the backward. A process whose part of
        the step reads none of the parameters must take part in it, see :meth:`anchor`.

        :param Sequence parameters: tensors that all processes hold.
        :return: (tuple) copies of the parameters.
        """
        if self.group is None or not parameters:
            return tuple(parameters)
        return _AveragedGradients.apply(self, *parameters)

    def anchor(
        self, values: Sequence[Tensor], shared: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        r"""
        Make values depend on shared parameters, with a derivative of zero, so that the
        backward through the values averages the gradients in every process.

        :param Sequence values: the values that were computed from the parameters.
        :param Sequence shared: what :meth:`share` returned.
        :return: (tuple) the values.
        """
        if self.group is None or not shared:
            return tuple(values)
        return _Anchor.apply(len(values), *values, *shared)


ALONE = Processes()


def require_one_process(model: Any, physics: Any) -> None:
    r"""
    Raise if several processes evaluate the step of a model together.

    :param model: a model; one without a method ``processes(physics)`` runs in one
        process.
    :param physics: its physics.
    :raises ValueError: if there are several processes.
    """
    processes = getattr(model, "processes", None)
    if processes is not None and processes(physics).cooperate:
        raise ValueError(
            f"this {type(model).__name__} is distributed over several processes, whose "
            "Jacobians differ. Load its state_dict into a model that is not "
            "distributed, and give the physics as it was before "
            "deepinv.distributed.distribute."
        )


class _AveragedGradients(torch.autograd.Function):
    """Copies of tensors, with a backward that averages over processes."""

    @staticmethod
    def forward(ctx: Any, processes: Processes, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.processes = processes
        return tuple(tensor.clone() for tensor in tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        flat = torch.cat([grad.reshape(-1).double() for grad in grads])
        parts = ctx.processes.average(flat).split([grad.numel() for grad in grads])
        means = (
            part.reshape(grad.shape).to(grad.dtype)
            for part, grad in zip(parts, grads, strict=True)
        )
        return None, *means


class _Anchor(torch.autograd.Function):
    """Copies of the first tensors, which depend on all others."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.unread = [(t.shape, t.dtype, t.device) for t in tensors[count:]]
        return tuple(tensor.clone() for tensor in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        zeros = (torch.zeros(s, dtype=d, device=where) for s, d, where in ctx.unread)
        return None, *grads, *zeros
