"""Products with the Jacobian of a recorded value."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class RecordedJacobian:
    r"""
    The Jacobian :math:`J` of a value that autograd has recorded, in some of the tensors
    that the value was computed from.

    :math:`J^\top w` is one backward pass. :math:`J v` is the derivative of
    :math:`w \mapsto J^\top w`, which is recorded at the first such product; each
    product is then one backward pass, too. Forward mode is not used, because it would
    have to replace parameters inside modules.

    :param torch.Tensor value: the value.
    :param Sequence inputs: the tensors in which it is differentiated.
    """

    def __init__(self, value: Tensor, inputs: Sequence[Tensor]):
        self.value = value
        self.inputs = tuple(inputs)
        self._cotangent = torch.zeros_like(value, requires_grad=True)
        self._pulled: tuple[Tensor, ...] | None = None

    def adjoint(self, w: Tensor, create_graph: bool = False) -> tuple[Tensor, ...]:
        r"""
        Return :math:`J^\top w`.

        :param torch.Tensor w: a cotangent, of the shape of the value.
        :param bool create_graph: whether the result is differentiable. Default:
            ``False``.
        :return: one tensor for each input; zeros where the value does not depend on it.
        """
        gradients: Sequence[Tensor | None] = [None] * len(self.inputs)
        if self.value.requires_grad:
            gradients = torch.autograd.grad(
                self.value,
                self.inputs,
                w,
                retain_graph=True,
                create_graph=create_graph,
                allow_unused=True,
            )
        return tuple(
            torch.zeros_like(x) if g is None else g
            for x, g in zip(self.inputs, gradients, strict=True)
        )

    def product(self, directions: Sequence[Tensor | None]) -> Tensor:
        r"""
        Return :math:`J v`.

        :param Sequence directions: :math:`v`, one tensor for each input; ``None``
            stands for zeros.
        :return: a tensor of the shape of the value, without a graph.
        :raises RuntimeError: if the value cannot be differentiated twice.
        """
        if self._pulled is None:
            with torch.enable_grad():
                self._pulled = self.adjoint(self._cotangent, create_graph=True)
        pairs = [
            (pulled, direction)
            for pulled, direction in zip(self._pulled, directions, strict=True)
            if direction is not None and pulled.requires_grad
        ]
        product = None
        if pairs:
            (product,) = torch.autograd.grad(
                [pulled for pulled, _ in pairs],
                self._cotangent,
                [direction for _, direction in pairs],
                retain_graph=True,
                allow_unused=True,
            )
        return torch.zeros_like(self.value) if product is None else product
