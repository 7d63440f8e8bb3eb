"""How a solve ended, sample by sample, in a sentence with a remedy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import IntEnum

import torch
from torch import Tensor

from .state import State, inner_products


class Status(IntEnum):
    r"""
    How the solve of one sample ended. Each member carries a sentence:

    >>> from deepinv_equilibrium import Status
    >>> print(Status.CONVERGED.sentence)
    The residual met the tolerance.
    """

    CONVERGED = 0
    COMPLETED = 1
    MAX_ITER = 2
    DIVERGED = 3
    NONFINITE = 4
    REFUTED = 5

    @property
    def sentence(self) -> str:
        """What happened and, where one is due, what to do about it."""
        return _SENTENCES[self]

    @property
    def failed(self) -> bool:
        """Whether the sample did not reach what was asked for."""
        return self > Status.COMPLETED


_SENTENCES = {
    Status.CONVERGED: "The residual met the tolerance.",
    Status.COMPLETED: "The fixed budget that was asked for was spent.",
    Status.MAX_ITER: (
        "max_iter was reached before the tolerance: raise max_iter, loosen rtol, or "
        "use an accelerated solver (Anderson, Broyden; GMRES in the backward)."
    ),
    Status.DIVERGED: (
        "The residual grew, or the iterates left the domain of the step: the step "
        "does not contract there. Reduce the step size, relax the iteration "
        "(Picard(relaxation<1)), or constrain the network; for CG, use GMRES where "
        "the operator is not symmetric positive definite."
    ),
    Status.NONFINITE: (
        "The step returned NaN or inf, or in the backward the loss did: the last "
        "finite iterate was kept and the sample adds nothing to any gradient. Check "
        "the input and the loss for NaN, reduce the step size, or compute in float64."
    ),
    Status.REFUTED: (
        "A plain step contracted less than the rate that Safeguarded was given: the "
        "rate is wrong. Certify it again if weights, step size or operator have "
        "changed since, compute in float64 if the arithmetic is coarse, or use a "
        "solver that needs no rate (Anderson)."
    ),
}


@dataclass(frozen=True)
class LowRankInverse:
    r"""
    Broyden's estimate :math:`H = I - \sum_j u_j v_j^\top` of
    :math:`(I - \partial f)^{-1}` at the fixed point, one a sample.

    :param torch.Tensor u: the :math:`u_j`, of shape :math:`(B, m, n)`.
    :param torch.Tensor v: the :math:`v_j`, of shape :math:`(B, m, n)`.
    """

    u: Tensor
    v: Tensor

    def apply(self, x: Tensor) -> Tensor:
        r""":math:`H x` for packed states of shape :math:`(B, n)`."""
        return x - torch.einsum("bmn,bm->bn", self.u, inner_products(self.v, x))

    def adjoint(self, x: Tensor) -> Tensor:
        r""":math:`H^\top x` for packed states of shape :math:`(B, n)`."""
        return x - torch.einsum("bmn,bm->bn", self.v, inner_products(self.u, x))


@dataclass(frozen=True, repr=False)
class Report:
    r"""
    How a solve went: one value a sample in each field.

    :param tuple status: a :class:`Status <deepinv_equilibrium.Status>` a sample.
    :param torch.Tensor residual: relative residual
        :math:`\|f(x) - x\| / \max(\|f(x)\|, \|f(x_0) - x_0\|)`, of a linear solve
        :math:`\|r\| / \|b\|`, of shape :math:`(B,)`.
    :param torch.Tensor absolute_residual: :math:`\|f(x) - x\|`, of a linear solve
        :math:`\|r\|`, of shape :math:`(B,)`.
    :param torch.Tensor iterations: iterations until the sample stopped.
    :param torch.Tensor evaluations: evaluations of the step (vector-Jacobian products
        in the backward) that the sample took part in until it stopped.
    :param torch.Tensor history: relative residuals, iterations :math:`\times` samples;
        NaN after a sample has stopped.
    :param torch.Tensor absolute_history: absolute residuals, likewise.
    """

    status: tuple[Status, ...]
    residual: Tensor
    absolute_residual: Tensor
    iterations: Tensor
    evaluations: Tensor
    history: Tensor
    absolute_history: Tensor

    @property
    def converged(self) -> Tensor:
        """Whether each sample met the tolerance, a boolean tensor of shape (B,)."""
        return torch.tensor([s is Status.CONVERGED for s in self.status])

    @property
    def failed_count(self) -> int:
        """Number of samples that did not reach what was asked for."""
        return sum(status.failed for status in self.status)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        counts = Counter(status.name for status in self.status)
        head = ", ".join(f"{count} {name}" for name, count in counts.items())
        lines = [
            f"{head} (of {len(self.status)} samples)",
            "sample  status     residual  absolute  iterations  evaluations",
        ]
        for i, status in enumerate(self.status):
            lines.append(
                f"{i:<6d}  {status.name:<9s}  {float(self.residual[i]):.2e}  "
                f"{float(self.absolute_residual[i]):.2e}  "
                f"{int(self.iterations[i]):<10d}  {int(self.evaluations[i])}"
            )
        for status in Status:
            if status.failed and status in self.status:
                lines.append(f"{status.name}: {status.sentence}")
        return "\n".join(lines)


@dataclass
class BackwardSlot:
    """Where the backward pass leaves its report; outlives the graph it came from."""

    report: Report | None = None


@dataclass(frozen=True, repr=False)
class Solution(Report):
    r"""
    A fixed point and the report of the solve.

    :param torch.Tensor, tuple x: :math:`f` of the last iterate (Picard) or of the best
        one (accelerated solvers), with the gradient that the adjoint gives it.
    :param torch.Tensor output: the output of that evaluation, for a step that has one
        (see :class:`HasOutput <deepinv_equilibrium.fixed_points.HasOutput>`), else
        ``None``.
    :param LowRankInverse inverse_jacobian: Broyden's estimate of
        :math:`(I - \partial f)^{-1}`, else ``None``.
    """

    x: State = field(repr=False)
    output: Tensor | None = field(default=None, repr=False)
    inverse_jacobian: LowRankInverse | None = field(default=None, repr=False)
    _backward: BackwardSlot = field(default_factory=BackwardSlot, repr=False)

    @property
    def backward(self) -> Report | None:
        """Report of the backward pass once it has run; ``None`` before, and for
        adjoints that solve no system (JacobianFree, Unrolled)."""
        return self._backward.report

    def detach(self) -> Solution:
        """The same solution, holding no graph and sharing no memory with ``x``."""
        if isinstance(self.x, tuple):
            x: State = tuple(component.detach().clone() for component in self.x)
        else:
            x = self.x.detach().clone()
        output = None if self.output is None else self.output.detach().clone()
        return replace(self, x=x, output=output)

    def __str__(self) -> str:
        text = super().__str__()
        if self.backward is not None:
            text += "\nbackward: " + str(self.backward)
        return text
