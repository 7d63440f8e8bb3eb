"""Recorded evaluations of a step, and products with their Jacobian."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ..autocast import Autocast
from ..processes import ALONE, Processes
from ..recorded_jacobian import RecordedJacobian
from ..solution import LowRankInverse, Report
from ..solvers.fixed_point_solver import FixedPointSolver
from ..solvers.linear_solver import LinearOperator
from ..state import State, StateLayout
from ..step import PackedStep
from .exclusion import leaves_behind


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
    """

    value: Tensor
    output: Tensor | None
    iterate: Tensor
    excluded: Tensor
    inverse_jacobian: LowRankInverse | None = None
    processes: Processes = ALONE
    autocast: Autocast | None = None

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
        return LinearOperator(
            lambda v: v - self.vjp(Cotangent(v)),
            lambda v: v - self.jvp(v),
            self.processes,
        )

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

        packed = PackedStep(step, StateLayout.of(rhs), processes=self.processes)
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
