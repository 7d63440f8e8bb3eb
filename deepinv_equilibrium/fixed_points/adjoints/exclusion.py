"""Exclusion of non-finite samples from the gradients of their batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.graph import Node


@contextmanager
def finite_saved_tensors() -> Iterator[None]:
    r"""
    Record a graph that saves 0 in place of every non-finite number.

    The cotangent of a non-finite sample is zero, but :math:`0 \cdot \infty` in the
    backward of a layer would still make the gradient of the weights NaN.
    """

    def pack(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point() or tensor.is_complex():
            return torch.nan_to_num(tensor.detach(), 0.0, 0.0, 0.0)
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield


@contextmanager
def finite_saved_tensors_if(excludes_some: Callable[[], bool]) -> Iterator[None]:
    r"""
    Record a graph whose backward reads 0 in place of every non-finite number, if
    samples are then known to be excluded.

    Unlike :func:`finite_saved_tensors` it serves where the host does not wait for the
    forward pass of an accelerator.

    :param Callable excludes_some: tells in the backward whether samples are excluded.
    """

    def pack(tensor: Tensor) -> tuple[Tensor, int]:
        # Detached, because a tensor that is saved by its own node would never be freed.
        return tensor.detach(), tensor._version

    def unpack(saved: tuple[Tensor, int]) -> Tensor:
        tensor, version = saved
        if tensor._version != version:  # autograd checks it for tensors without hooks
            raise RuntimeError(
                "a tensor of shape "
                f"{tuple(tensor.shape)} that the gradient of a fixed point needs was "
                "modified by an inplace operation between the forward and the "
                "backward pass; call backward first."
            )
        if excludes_some() and (tensor.is_floating_point() or tensor.is_complex()):
            return torch.nan_to_num(tensor, 0.0, 0.0, 0.0)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


def annihilate_zero_cotangents(tensors: Iterable[Tensor | None]) -> None:
    r"""
    Make the elementwise operations of a graph map a zero cotangent to zero.

    If a derivative is infinite, as for :math:`\sqrt x`, :math:`1/x` or :math:`\log x`
    at 0, autograd would return NaN for :math:`0 \cdot \infty`.

    :param Iterable tensors: the tensors that the graph computes; ``None`` is skipped.
    """

    def keep_zero(
        grad_inputs: tuple[Tensor | None, ...], grad_outputs: tuple[Tensor | None, ...]
    ) -> tuple[Tensor | None, ...]:
        cotangent, *others = grad_outputs
        if cotangent is None or others:
            return grad_inputs
        return tuple(
            (
                torch.where((cotangent == 0) & ~torch.isfinite(product), 0.0, product)
                if product is not None and product.shape == cotangent.shape
                else product
            )
            for product in grad_inputs
        )

    for node in nodes_behind(tensors):
        node.register_hook(keep_zero)


def leaves_behind(tensors: Iterable[Tensor | None]) -> Iterator[Tensor]:
    r"""
    Iterate over the leaves from which a graph computes some tensors.

    :param Iterable tensors: the tensors; ``None`` is skipped.
    :return: (Iterator) the leaves that require a gradient, each once.
    """
    for node in nodes_behind(tensors):
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            yield leaf


def nodes_behind(tensors: Iterable[Tensor | None]) -> Iterator[Node]:
    r"""
    Iterate over the nodes of the graph that computes some tensors.

    :param Iterable tensors: the tensors; ``None`` is skipped.
    :return: (Iterator) the nodes, each once.
    """
    seen = set()
    waiting = [tensor.grad_fn for tensor in tensors if tensor is not None]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting.extend(parent for parent, _ in node.next_functions)
