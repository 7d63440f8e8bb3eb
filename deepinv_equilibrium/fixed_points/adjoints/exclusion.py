"""Exclusion of non-finite samples from the gradients of their batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
