"""Derivatives of a step in its state and in its parameters, for each sample."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...fixed_points import Step
from ...fixed_points.recorded_jacobian import RecordedJacobian
from ..bounds import Bound, Kind
from ..spectra.lanczos import largest_eigenvalue

FEW_PARAMETERS = 32
"""Largest number of parameters whose Jacobian is computed column by column."""

LANCZOS_STEPS = 12
LANCZOS_DELTA = 1e-3


def sample_norms(x: Tensor) -> Tensor:
    r"""
    Return the norm of each sample in float64.

    :param torch.Tensor x: a batch of shape :math:`(B, ...)`.
    :return: the norms, of shape :math:`(B,)`.
    """
    return x.detach().flatten(1).double().norm(dim=1)


class StepJacobians:
    r"""
    The Jacobians :math:`J = \partial_x f` and :math:`B = \partial_\theta f` of a step
    at any state.

    :param Callable step: :math:`f`, on states that are one real tensor.
    :param Sequence parameters: the tensors :math:`\theta`.
    """

    def __init__(self, step: Step, parameters: Sequence[Tensor]):
        self.step = step
        self.parameters = list(parameters)

    @property
    def has_few_parameters(self) -> bool:
        """Whether norms of :math:`B` are computed; otherwise they are estimated."""
        return sum(p.numel() for p in self.parameters) <= FEW_PARAMETERS

    def norm_evidence(self, batch_size: int) -> Bound:
        r"""
        Return how well norms of :math:`B` are established.

        :param int batch_size: number of samples.
        :return: a bound of value 0 with the kind, source and probability of failure of
            the norms of all samples.
        """
        if self.has_few_parameters:
            return Bound(0.0, source="product by product")
        delta = min(batch_size * LANCZOS_DELTA, 0.5)
        return Bound(0.0, Kind.ESTIMATED, f"{LANCZOS_STEPS} Lanczos steps", delta=delta)

    def state_vjp(self, x: Tensor, cotangent: Tensor) -> Tensor:
        r"""
        Return :math:`J(x)^\top c`.

        :param torch.Tensor x: a batch of states, of shape :math:`(B, ...)`.
        :param torch.Tensor cotangent: :math:`c`, of the shape of :math:`x`.
        :return: the product, of the shape of :math:`x`.
        """
        x = x.detach().requires_grad_()
        return RecordedJacobian(self._value(x), [x]).adjoint(cotangent)[0]

    def columns(self, x: Tensor) -> Tensor:
        r"""
        Return the dense :math:`B(x)` in float64.

        :param torch.Tensor x: a batch of states, of shape :math:`(B, ...)`.
        :return: the matrices, of shape :math:`(B, n, p)` for :math:`n` entries of a
            sample and :math:`p` parameters.
        """
        jacobian = self._parameter_jacobian(x)
        columns = []
        for index, parameter in enumerate(self.parameters):
            directions: list[Tensor | None] = [None] * len(self.parameters)
            for unit in torch.eye(parameter.numel()).to(parameter):
                directions[index] = unit.reshape(parameter.shape)
                columns.append(jacobian.product(directions).flatten(1).double())
        return torch.stack(columns, dim=2)

    def gradient_norm(self, x: Tensor, cotangent: Tensor) -> float:
        r"""
        Return :math:`\|B(x)^\top c\|` for the batch as one vector.

        :param torch.Tensor x: a batch of states.
        :param torch.Tensor cotangent: :math:`c`, of the shape of :math:`x`.
        :return: the norm.
        """
        gradients = self._parameter_jacobian(x).adjoint(cotangent)
        return math.hypot(*(float(g.double().norm()) for g in gradients))

    def parameter_norms(self, x: Tensor) -> Tensor:
        r"""
        Return :math:`\|B_b(x)\|` for each sample :math:`b`. With few parameters the
        norms are exact up to rounding; otherwise they are probabilistic upper bounds by
        Lanczos' method.

        :param torch.Tensor x: a batch of states.
        :return: the norms in float64, of shape :math:`(B,)`.
        """
        if self.has_few_parameters:
            return largest_singular_values(self.columns(x))
        jacobian = self._parameter_jacobian(x)
        norms = [_lanczos_norm(jacobian, sample) for sample in range(len(x))]
        return torch.tensor(norms, dtype=torch.float64, device=x.device)

    def parameter_change(self, x: Tensor, other: Tensor, cotangent: Tensor) -> Tensor:
        r"""
        Return how much :math:`B` differs between two states. With few parameters it is
        :math:`\|B_b(x_1) - B_b(x_2)\|`, otherwise the change along a cotangent,
        :math:`\|(B_b(x_1) - B_b(x_2))^\top c_b\| / \|c_b\|`.

        :param torch.Tensor x: :math:`x_1`, a batch of states.
        :param torch.Tensor other: :math:`x_2`, of the same shape.
        :param torch.Tensor cotangent: :math:`c`, of the same shape.
        :return: one number for each sample :math:`b`, of shape :math:`(B,)`.
        """
        if self.has_few_parameters:
            return largest_singular_values(self.columns(x) - self.columns(other))
        jacobians = [self._parameter_jacobian(state) for state in (x, other)]
        changes = []
        for b in range(len(x)):
            masked = torch.zeros_like(cotangent)
            masked[b] = cotangent[b]
            first, second = (jacobian.adjoint(masked) for jacobian in jacobians)
            squares = [
                (p - q).double().square().sum()
                for p, q in zip(first, second, strict=True)
            ]
            changes.append(torch.stack(squares).sum().sqrt())
        scale = sample_norms(cotangent)
        return torch.stack(changes) / torch.where(scale > 0, scale, 1.0)

    def _value(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            value = self.step(x)
        assert isinstance(value, Tensor)
        return value

    def _parameter_jacobian(self, x: Tensor) -> RecordedJacobian:
        return RecordedJacobian(self._value(x.detach()), self.parameters)


def _lanczos_norm(jacobian: RecordedJacobian, sample: int) -> float:
    r"""Bound :math:`\|B_b\|` by Lanczos' method on :math:`B_b B_b^\top`."""
    value = jacobian.value
    if not bool(torch.isfinite(value[sample]).all()):
        return math.inf

    def apply(q: Tensor) -> Tensor:
        cotangent = torch.zeros_like(value)
        cotangent[sample] = q
        return jacobian.product(jacobian.adjoint(cotangent))[sample]

    square = largest_eigenvalue(
        apply,
        value.shape[1:],
        steps=LANCZOS_STEPS,
        delta=LANCZOS_DELTA,
        generator=torch.Generator().manual_seed(0),
        device=value.device,
    )
    return math.sqrt(square.value)


def largest_singular_values(matrices: Tensor) -> Tensor:
    r"""
    Return the largest singular value of each matrix.

    :param torch.Tensor matrices: matrices of shape :math:`(B, n, p)`, with small
        :math:`p`.
    :return: the values, of shape :math:`(B,)`; all are infinite if an entry is not
        finite.
    """
    gram = matrices.mT @ matrices
    if not bool(torch.isfinite(gram).all()):
        return torch.full(gram.shape[:1], torch.inf, dtype=gram.dtype)
    return torch.linalg.eigvalsh(gram)[:, -1].clamp(min=0).sqrt()
