"""Transforms of torch.func and forward mode, in which most solves are not possible."""

from __future__ import annotations

import torch
from torch import Tensor


def refuse_transforms(what: str, records_all: bool) -> None:
    r"""
    Raise if an active transform would fail in a solve, or differentiate it wrongly.

    A solve decides with the values of each sample when to stop, which
    ``torch.func.vmap`` does not allow. The iterations are not recorded, so that
    derivatives in forward mode (``torch.func.jvp``, ``jacfwd``, dual numbers) would
    be 0. Reverse mode (``torch.func.grad``, ``vjp``, ``jacrev``) is possible if all
    iterations are recorded, and needless if gradients are disabled.

    :param str what: name of the solve, with which the message starts.
    :param bool records_all: whether autograd records all iterations.
    :raises RuntimeError: if such a transform is active.
    """
    stack = torch._C._functorch.get_interpreter_stack() or ()
    active = {interpreter.key().name for interpreter in stack}
    if "Vmap" in active:
        raise RuntimeError(
            f"{what} cannot run in torch.func.vmap, because it decides with the values "
            "of each sample when to stop. The first axis of the state is a batch, "
            "whose samples are solved apart: move the axis of vmap there."
        )
    if "Jvp" in active or torch.autograd.forward_ad._current_level >= 0:
        raise RuntimeError(
            f"{what} cannot be differentiated in forward mode (torch.func.jvp, jacfwd, "
            "dual numbers), because its iterations are not recorded. Use reverse mode, "
            "torch.autograd.grad, or torch.autograd.functional.jvp with the adjoint "
            "Unrolled()."
        )
    if "Grad" in active and torch.is_grad_enabled() and not records_all:
        raise RuntimeError(
            f"{what} cannot be differentiated by torch.func.grad, vjp or jacrev, whose "
            "tensors an adjoint cannot record. Use torch.autograd.grad or "
            "Tensor.backward, or the adjoint Unrolled()."
        )


def refuse_batched_cotangents(what: str, cotangent: Tensor) -> None:
    r"""
    Raise if autograd passes several cotangents at once.

    :param str what: name of the solve, with which the message starts.
    :param torch.Tensor cotangent: the cotangent.
    :raises RuntimeError: if ``is_grads_batched=True`` or ``vectorize=True`` is given to
        autograd.
    """
    functorch = torch._C._functorch
    if functorch.is_batchedtensor(cotangent) or functorch.is_legacy_batchedtensor(
        cotangent
    ):
        raise RuntimeError(
            f"{what} takes one cotangent at a time, and got several from "
            "is_grads_batched=True, vectorize=True or torch.func.vmap. Call the "
            "backward pass once for each cotangent."
        )
