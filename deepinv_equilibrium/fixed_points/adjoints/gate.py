"""The node of the autograd graph that gives a fixed point its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from .recording import Cotangent, Recording

Transform: TypeAlias = Callable[[Recording, Cotangent], Tensor]
"""A function that maps the cotangent of the fixed point to that of the value."""


class _Gate(torch.autograd.Function):
    """Return the fixed point, and send the transformed cotangent into a recording.

    The tensors of the backward are saved through ``save_for_backward``, so that
    autograd frees them with the recording and no reference cycle arises.
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
        device = recording.value.device.type
        with torch.no_grad(), torch.autocast(device, enabled=False):
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
    """Raise if the gradient of a fixed point is differentiated again.

    The anchors are all tensors on which the gradient depends: whichever of them a
    second derivative is taken in, its path passes through this node.
    """

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

    :param Callable transform: maps a recording and the cotangent of the fixed point to
        the cotangent of the recorded value, of shape :math:`(B, n)`.
    :param torch.Tensor x: the packed fixed point, of shape :math:`(B, n)`, without
        gradient.
    :param torch.Tensor x_output: its output, of shape :math:`(B, ...)`, without
        gradient, or ``None``.
    :param Recording recording: the evaluation that receives the cotangent.
    :return: (tuple) copies of ``x`` and ``x_output`` whose gradient flows into the
        recording.
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
