"""Keeping samples that turned non-finite out of the gradients of the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.graph import Node


@contextmanager
def finite_saved_tensors() -> Iterator[None]:
    r"""
    Record with every non-finite number that is saved for the backward replaced by 0.

    A sample that turned non-finite has a zero cotangent, but :math:`0 \cdot \infty` in
    the backward of a layer would still poison the gradient of the weights.
    """

    def pack(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point() or tensor.is_complex():
            return torch.nan_to_num(tensor.detach(), 0.0, 0.0, 0.0)
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield


def annihilate_zero_cotangents(tensors: Iterable[Tensor | None]) -> None:
    r"""
    Let a zero cotangent stay zero through the elementwise operations of a graph.

    Where a derivative is infinite (:math:`\sqrt x`, :math:`1/x` or :math:`\log x` at 0)
    autograd makes NaN of :math:`0 \cdot \infty`.

    :param Iterable tensors: what the graph computes.
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


def nodes_behind(tensors: Iterable[Tensor | None]) -> Iterator[Node]:
    r"""
    :param Iterable tensors: tensors that autograd may have recorded.
    :return: the nodes of the graph that computes them, each once.
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
