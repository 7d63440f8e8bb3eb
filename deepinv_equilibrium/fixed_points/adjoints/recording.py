"""Recorded evaluations of a step, and products with their Jacobian."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ..autocast import Autocast
from ..processes import ALONE, Processes
from ..recorded_jacobian import RecordedJacobian
from ..running_samples import are_close, restricted, rows_of
from ..solution import LowRankInverse, Report
from ..solvers.fixed_point_solver import FixedPointSolver
from ..solvers.linear_solver import LinearOperator
from ..state import State, StateLayout
from ..step import PackedStep, Step
from .exclusion import leaves_behind

# A second recording for some samples is made if it needs at most this part of the
# memory of the batch.
_LARGEST_PART = 0.25


@dataclass(frozen=True)
class Cotangent:
    r"""
    Derivatives of the loss in a packed value of the step and in its output.

    :param torch.Tensor state: derivative in the value, of shape :math:`(B, n)`.
    :param torch.Tensor output: derivative in the output, of the shape of the output;
        ``None`` (the default) for zero.
    """

    state: Tensor
    output: Tensor | None = None


@dataclass(frozen=True)
class Recording:
    r"""
    One evaluation of the step that autograd has recorded, at a packed iterate
    :math:`x`.

    :param torch.Tensor value: packed value :math:`f(x)`, of shape :math:`(B, n)`.
    :param torch.Tensor output: output of the step at :math:`x`, of shape
        :math:`(B, ...)`, or ``None``.
    :param torch.Tensor iterate: :math:`x`, of shape :math:`(B, n)`. It requires
        gradients if the adjoint needs products with :math:`J = \partial f(x)`.
    :param torch.Tensor excluded: boolean, of shape :math:`(B,)`; the samples that add
        nothing to gradients.
    :param LowRankInverse inverse_jacobian: the solver's estimate of
        :math:`(I - J)^{-1}`, if the adjoint reads it; else ``None``.
    :param Processes processes: the processes that evaluated the step together. Default:
        this process alone.
    :param Autocast autocast: the setting of ``torch.autocast`` under which the value
        was computed. Default: ``None``, no autocast.
    :param PackedStep step: the step, if it can be restricted to some samples. Default:
        ``None``.
    """

    value: Tensor
    output: Tensor | None
    iterate: Tensor
    excluded: Tensor
    inverse_jacobian: LowRankInverse | None = None
    processes: Processes = ALONE
    autocast: Autocast | None = None
    step: PackedStep | None = None

    def vjp(self, cotangent: Cotangent) -> Tensor:
        r"""
        Return the vector-Jacobian product in the iterate; the graph is retained. It is
        the mean over the processes that evaluated the step.

        :param Cotangent cotangent: derivatives :math:`v` in the value and :math:`w` in
            the output :math:`o(x)`.
        :return: (torch.Tensor) :math:`J^\top v + (\partial o)^\top w`, of shape
            :math:`(B, n)`.
        """
        if self.autocast is not None and self.autocast.scales_losses:
            return self._scaled_vjp(cotangent)
        return self._vjp(cotangent)

    def _scaled_vjp(self, cotangent: Cotangent) -> Tensor:
        """Compute the product for a cotangent scaled to entries of at most 1, so that
        it neither overflows nor underflows in float16."""
        parts = [cotangent.state]
        if cotangent.output is not None:
            parts.append(cotangent.output)
        sizes = [part.flatten(1).abs().amax(dim=1) for part in parts]
        size = torch.stack(sizes).amax(dim=0)
        size = torch.where((size > 0) & torch.isfinite(size), size, 1.0)
        scaled = [p / size.reshape(-1, *[1] * (p.ndim - 1)) for p in parts]
        return self._vjp(Cotangent(*scaled)) * size[:, None]

    def _vjp(self, cotangent: Cotangent) -> Tensor:
        pairs = [(self.value, cotangent.state)]
        if self.output is not None and cotangent.output is not None:
            pairs.append((self.output, cotangent.output))
        pairs = [(tensor, vector) for tensor, vector in pairs if tensor.requires_grad]
        product = None
        if pairs:
            product, *_ = torch.autograd.grad(
                [tensor for tensor, _ in pairs],
                self._differentiated,
                [vector for _, vector in pairs],
                retain_graph=True,
                allow_unused=True,
            )
        if product is None:
            product = torch.zeros_like(self.iterate)
        return self.mask(self.processes.average(product))

    @cached_property
    def _differentiated(self) -> tuple[Tensor, ...]:
        """The tensors in which a product is computed: the iterate, and in some cases
        all leaves, whose derivatives are not used."""
        if not self.processes.cooperate:
            return (self.iterate,)
        # A process without operators adds zeros to a sum over the processes. Its
        # backward reaches the sum, in which all processes take part, only on the way
        # to these zeros: a leaf that is not a parameter.
        leaves = list(leaves_behind((self.value, self.output)))
        has_zeros = any(
            leaf is not self.iterate and not isinstance(leaf, nn.Parameter)
            for leaf in leaves
        )
        if not self.processes.any(has_zeros, self.iterate.device):
            return (self.iterate,)
        return (self.iterate, *leaves)

    def jvp(self, tangent: Tensor) -> Tensor:
        r"""
        Return the Jacobian-vector product of the value.

        :param torch.Tensor tangent: :math:`u`, of shape :math:`(B, n)`.
        :return: (torch.Tensor) :math:`J u`, of shape :math:`(B, n)`.
        :raises NotImplementedError: if several processes evaluated the step together.
        """
        if self.processes.cooperate:
            raise NotImplementedError(
                "Products with the Jacobian of a step that several processes evaluate "
                "together differentiate a vector-Jacobian product, which "
                "deepinv.distributed multiplies by the number of processes; use a "
                "solver without such products, such as Implicit(GMRES())."
            )
        jacobian = RecordedJacobian(self.value, [self.iterate])
        return self.mask(jacobian.product([tangent]))

    def right_side(self, cotangent: Cotangent) -> Tensor:
        r"""
        Return the right side of the adjoint system :math:`(I - J^\top)\, v = b`.

        :param Cotangent cotangent: derivatives :math:`c` of the loss in the fixed point
            and :math:`w` in the output :math:`o(x)`.
        :return: (torch.Tensor) :math:`b = c + (\partial o)^\top w`, of shape
            :math:`(B, n)`; :math:`c` itself for a step without an output. It is the
            mean over the processes that evaluated the step.
        """
        state = self.processes.average(cotangent.state)
        if self.output is None or cotangent.output is None:
            return state
        zero = torch.zeros_like(state)
        return state + self.vjp(Cotangent(zero, cotangent.output))

    def adjoint_operator(self) -> LinearOperator:
        r"""Return :math:`I - J^\top`, for a linear solver."""
        products = RunningProducts(self)
        return LinearOperator(
            lambda v: v - products.vjp(v),
            lambda v: v - products.jvp(v),
            self.processes,
            products.leave_out,
        )

    def of_samples(self, rows: Tensor) -> Recording | None:
        r"""
        Record the evaluation again, for some samples only.

        :param torch.Tensor rows: the numbers of the samples.
        :return: (Recording) the recording; ``None`` if the step cannot be restricted to
            samples, or gives another value than it has given for the batch.
        """
        if self.step is None:
            return None
        part = restricted(self.step, rows)
        if part is None:
            return None
        iterate = self.iterate.detach().index_select(0, rows).requires_grad_()
        expected = self.value.detach().index_select(0, rows)
        try:
            with torch.enable_grad():
                value, output = part(iterate)
        except (RuntimeError, ValueError, TypeError, IndexError):  # see restricted
            return None
        if not are_close(part, value.detach(), expected):
            return None
        excluded = self.excluded.index_select(0, rows)
        return Recording(value, output, iterate, excluded, autocast=self.autocast)

    def iterate_adjoint(
        self, solver: FixedPointSolver, rhs: Tensor, start: Tensor
    ) -> tuple[Tensor, Report]:
        r"""
        Solve :math:`v = J^\top v + b` as a fixed-point equation.

        :param FixedPointSolver solver: the solver.
        :param torch.Tensor rhs: :math:`b`, of shape :math:`(B, n)`.
        :param torch.Tensor start: initial :math:`v`, of shape :math:`(B, n)`.
        :return: (tuple) :math:`v`, of shape :math:`(B, n)`, and the report.
        """

        def step(v: State) -> State:
            assert isinstance(v, Tensor)
            return self.vjp(Cotangent(v)) + rhs

        def of_samples(rows: Tensor) -> Step | None:
            if len(rows) > _LARGEST_PART * len(rhs):
                return None
            part, right = self.of_samples(rows), rhs.index_select(0, rows)
            if part is None:
                return None
            return lambda v: part.vjp(Cotangent(_tensor(v))) + right

        packed = PackedStep(
            step,
            StateLayout.of(rhs),
            processes=self.processes,
            of_samples=None if self.step is None else of_samples,
        )
        monitor = solver.run(packed, start)
        monitor.finish()
        return monitor.value, monitor.report()

    def mask(self, rows: Tensor) -> Tensor:
        r"""
        Set the rows of excluded samples to zero.

        :param torch.Tensor rows: a tensor of shape :math:`(B, ...)`.
        :return: (torch.Tensor) the masked tensor.
        """
        where = self.excluded.reshape(-1, *[1] * (rows.ndim - 1))
        return torch.where(where, 0.0, rows)


class RunningProducts:
    r"""
    Products with the Jacobian of a recording, without the samples that have stopped.

    :param Recording recording: the recording of the whole batch.
    """

    def __init__(self, recording: Recording):
        self._recording = recording
        self._rows: Tensor | None = None
        self._part: Recording | None = None
        self._size = len(recording.value)
        self._may_leave = recording.step is not None

    def leave_out(self, running: Sequence[bool]) -> None:
        """Go on with the running samples, if so many have stopped that a recording of
        the others needs little memory beside that of the batch."""
        count, batch = sum(running), len(running)
        # Each further recording costs an evaluation.
        most = _LARGEST_PART * batch if self._rows is None else self._size / 2
        if not self._may_leave or not 0 < count <= most:
            return
        rows = rows_of(running, self._recording.value.device)
        part = self._recording.of_samples(rows)
        if part is None:
            self._may_leave = False
            return
        self._rows, self._part, self._size = rows, part, count

    def vjp(self, v: Tensor) -> Tensor:
        """Return the vector-Jacobian product of the value, zeros for the samples that
        have stopped."""
        if self._part is None or self._rows is None:
            return self._recording.vjp(Cotangent(v))
        product = self._part.vjp(Cotangent(v.index_select(0, self._rows)))
        return torch.zeros_like(v).index_copy(0, self._rows, product)

    def jvp(self, v: Tensor) -> Tensor:
        """Return the Jacobian-vector product of the value, likewise."""
        if self._part is None or self._rows is None:
            return self._recording.jvp(v)
        product = self._part.jvp(v.index_select(0, self._rows))
        return torch.zeros_like(v).index_copy(0, self._rows, product)


def _tensor(state: State) -> Tensor:
    assert isinstance(state, Tensor)
    return state
