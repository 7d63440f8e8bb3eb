"""The node of the graph through which a fixed point gets its gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx


@dataclass(frozen=True)
class Cotangent:
    r"""
    Gradients of the loss with respect to a value of the step and its output.

    :param torch.Tensor state: of shape :math:`(B, n)`, packed.
    :param torch.Tensor output: of the shape of the output, ``None`` without one.
    """

    state: Tensor
    output: Tensor | None


@dataclass(frozen=True)
class Recording:
    r"""
    One evaluation of the step that autograd has recorded.

    :param torch.Tensor value: packed value, of shape :math:`(B, n)`.
    :param torch.Tensor output: its output, ``None`` without one.
    :param torch.Tensor iterate: the packed state it was evaluated at, which requires
        gradients where the adjoint differentiates with respect to it.
    :param torch.Tensor excluded: samples that must add nothing to any gradient.
    """

    value: Tensor
    output: Tensor | None
    iterate: Tensor
    excluded: Tensor

    def vjp(self, cotangent: Cotangent) -> Tensor:
        r"""Product of the cotangent with the Jacobian in the iterate, of shape
        :math:`(B, n)`. The graph is kept."""
        pairs = [(self.value, cotangent.state)]
        if self.output is not None and cotangent.output is not None:
            pairs.append((self.output, cotangent.output))
        pairs = [(tensor, vector) for tensor, vector in pairs if tensor.requires_grad]
        product = None
        if pairs:
            (product,) = torch.autograd.grad(
                [tensor for tensor, _ in pairs],
                self.iterate,
                [vector for _, vector in pairs],
                retain_graph=True,
                allow_unused=True,
            )
        if product is None:
            return torch.zeros_like(self.iterate)
        return self.mask(product)

    def jvp(self, tangent: Tensor) -> Tensor:
        r"""Product :math:`J u` of the Jacobian of the value with a tangent, by
        differentiating :math:`w \mapsto J^\top w`."""
        if not self.value.requires_grad:
            return torch.zeros_like(tangent)
        w = torch.zeros_like(self.value, requires_grad=True)
        with torch.enable_grad():
            (product,) = torch.autograd.grad(
                self.value, self.iterate, w, create_graph=True, allow_unused=True
            )
            if product is None or not product.requires_grad:
                return torch.zeros_like(tangent)
            (result,) = torch.autograd.grad(product, w, tangent)
        return self.mask(result)

    def mask(self, rows: Tensor) -> Tensor:
        """Zero where a sample is excluded."""
        where = self.excluded.reshape(-1, *[1] * (rows.ndim - 1))
        return torch.where(where, 0.0, rows)


Transform: TypeAlias = Callable[[Recording, Cotangent], Tensor]
"""From the cotangent of the fixed point to that of the recorded value."""


def identity(recording: Recording, cotangent: Cotangent) -> Tensor:
    """Send the cotangent into the recording as it is."""
    return cotangent.state


class _Gate(torch.autograd.Function):
    """Returns the fixed point, and sends the transformed cotangent into a recording.

    What backward needs is saved through ``save_for_backward``, so that autograd frees
    it with the recording, and no cycle of references arises.
    """

    @staticmethod
    def forward(
        ctx: Any,
        transform: Transform,
        x: Tensor,
        x_output: Tensor | None,
        value: Tensor,
        output: Tensor | None,
        iterate: Tensor,
        excluded: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        ctx.set_materialize_grads(False)
        ctx.transform = transform
        ctx.save_for_backward(value, output, iterate, excluded)
        return x.clone(), None if x_output is None else x_output.clone()

    @staticmethod
    def backward(
        ctx: Any, state: Tensor | None, output: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        recording = Recording(*ctx.saved_tensors)
        differentiated_again = torch.is_grad_enabled()
        anchors = (recording.value, recording.output, state, output)
        with torch.no_grad():
            state = torch.zeros_like(recording.value) if state is None else state
            cotangent = Cotangent(
                recording.mask(state),
                None if output is None else recording.mask(output),
            )
            state = recording.mask(ctx.transform(recording, cotangent))
            output = cotangent.output
        if differentiated_again:
            state, output = _Once.apply(state, output, *anchors)
        return None, None, None, state, output, None, None


class _Once(torch.autograd.Function):
    """Raises where the gradient of a fixed point is differentiated again. Its anchors
    tie it to everything the gradient depends on, so that no path goes round it."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, state: Tensor, output: Tensor | None, *anchors: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        return state.clone(), None if output is None else output.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor | None) -> Any:
        raise NotImplementedError(
            "The gradient of a fixed point cannot be differentiated again with this "
            "adjoint, nor where a sample turned non-finite; use adjoint=Unrolled(), "
            "whose second derivatives are right, on finite samples."
        )


def gate(
    transform: Transform, x: Tensor, x_output: Tensor | None, recording: Recording
) -> tuple[Tensor, Tensor | None]:
    r"""
    Give a fixed point its gradient.

    :param Callable transform: from the cotangent of the fixed point to that of the
        recorded value.
    :param torch.Tensor x: the packed fixed point, without gradient.
    :param torch.Tensor x_output: its output, without gradient, if there is one.
    :param Recording recording: the evaluation that receives the cotangent.
    :return: the same values, whose gradient flows into the recording.
    """
    return _Gate.apply(
        transform,
        x,
        x_output,
        recording.value,
        recording.output,
        recording.iterate,
        recording.excluded,
    )
