"""Evaluations of a step for the samples of a batch that still run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .step import PackedStep

# Samples leave the batch only if at most this part of them goes on: each time costs a
# new step, and its evaluation for a comparison.
_LARGEST_PART = 0.75
# Rounding depends on the size of the batch. What a step has for one sample and takes
# for another, such as a mask, changes its value by far more.
_ROUNDING = 100.0


class RunningSamples:
    r"""
    The evaluations of a step without the samples that have stopped.

    A step that cannot be restricted to samples is evaluated for the whole batch. The
    restricted step is compared once with the step, at the last iterate, because a part
    of it may depend on the place of a sample in the batch.

    :param PackedStep step: the step for the whole batch.
    """

    def __init__(self, step: PackedStep):
        self._step = step
        # An adjoint that records all iterations records those of the whole batch.
        self._may_leave = (
            step.of_samples is not None
            and not step.processes.cooperate
            and not torch.is_grad_enabled()
        )
        self._rows: Tensor | None = None
        self._part: PackedStep | None = None
        self._size = step.layout.batch_size  # of the last try
        self._wasted = 0  # evaluations of stopped samples since then

    def evaluate(
        self, x: Tensor, last: Tensor, last_output: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        r"""
        Evaluate the step at the iterates of the running samples.

        :param torch.Tensor x: the iterates, of shape :math:`(B, n)`.
        :param torch.Tensor last: the values that the other samples keep.
        :param torch.Tensor last_output: their outputs, or ``None``.
        :return: (tuple) the values and the outputs, or ``None``.
        """
        if self._part is None or self._rows is None:
            return self._step(x)
        value, output = self._part(x.index_select(0, self._rows))
        if output is not None:
            assert last_output is not None
            output = last_output.index_copy(0, self._rows, output)
        return last.index_copy(0, self._rows, value), output

    def leave_out(self, running: Sequence[bool], x: Tensor, value: Tensor) -> bool:
        r"""
        Go on with the running samples, if enough have stopped.

        :param Sequence running: which samples are running.
        :param torch.Tensor x: the last iterates, of shape :math:`(B, n)`.
        :param torch.Tensor value: their values, of shape :math:`(B, n)`.
        :return: (bool) whether the running samples were evaluated for the comparison.
        """
        count = sum(running)
        if not self._may_leave or not 0 < count <= _LARGEST_PART * self._size:
            return False
        if self._wasted < count:  # less than a comparison costs
            self._wasted += self._size - count
            return False
        rows = rows_of(running, x.device)
        # The next try is for fewer samples, whether this one succeeds or not.
        self._size, self._wasted = count, 0
        part = restricted(self._step, rows)
        if part is None:
            return False
        compares = self._rows is None
        if compares and not agrees(part, x, value, rows):
            self._may_leave = False
        else:
            self._rows, self._part = rows, part
        return compares


def rows_of(running: Sequence[bool], device: torch.device) -> Tensor:
    """Return the numbers of the running samples."""
    numbers = [number for number, runs in enumerate(running) if runs]
    return torch.tensor(numbers, device=device)


def restricted(step: PackedStep, rows: Tensor) -> PackedStep | None:
    """Return a step for some samples; ``None`` if it cannot be restricted to them."""
    assert step.of_samples is not None
    try:
        part = step.of_samples(rows)
    except (RuntimeError, ValueError, TypeError, IndexError):
        # A step may fail in any way if parts of it belong to the whole batch, for which
        # it does not fail.
        return None
    if part is None:
        return None
    shapes = tuple((len(rows), *shape[1:]) for shape in step.layout.shapes)
    layout = replace(step.layout, shapes=shapes)
    return PackedStep(part, layout, step.autocast)


def agrees(part: PackedStep, x: Tensor, value: Tensor, rows: Tensor) -> bool:
    r"""
    Return whether a step for some samples gives what the step gives for the batch.

    :param PackedStep part: the step for the samples.
    :param torch.Tensor x: iterates of the batch, of shape :math:`(B, n)`.
    :param torch.Tensor value: their values, of shape :math:`(B, n)`.
    :param torch.Tensor rows: the numbers of the samples.
    """
    try:
        with torch.no_grad():
            found, _ = part(x.detach().index_select(0, rows))
    except (RuntimeError, ValueError, TypeError, IndexError):  # see restricted
        return False
    return are_close(part, found, value.detach().index_select(0, rows))


def are_close(part: PackedStep, found: Tensor, expected: Tensor) -> bool:
    """Return whether values of a step differ by rounding only."""
    eps = torch.finfo(expected.dtype).eps
    if part.autocast is not None:
        eps = max(eps, part.autocast.eps / _ROUNDING)
    gap = torch.linalg.vector_norm(found - expected, dim=1)
    size = torch.linalg.vector_norm(expected, dim=1)
    return bool((gap <= _ROUNDING * eps * size).all())
