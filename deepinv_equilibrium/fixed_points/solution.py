"""Solutions, the reports of solves, and the status of each sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

import torch
from torch import Tensor

from .state import State, combinations, inner_products


class Status(IntEnum):
    r"""
    How the solve of one sample ended. Each member has a sentence:

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
        """Describe what happened, and for a failure the remedy."""
        return _SENTENCES[self]

    @property
    def failed(self) -> bool:
        """Whether this is a failure: any status but CONVERGED and COMPLETED."""
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

_STAGNATION_SENTENCE = (
    "max_iter was reached, and the residual has stopped falling: the step does not "
    "contract there, and more iterations do not help. "
    "deq.check_well_posed(model, y, physics) and deq.estimate_rate(model, y, physics) "
    "tell more. Reduce the step size, relax the iteration (Picard(relaxation<1)), or "
    "constrain the network."
)
_ROUNDING_SENTENCE = (
    "max_iter was reached, and the residual stays at the rounding of {}: loosen rtol, "
    "or compute in a higher precision."
)
# The residual has stopped falling if it fell by less than this factor per iteration in
# the second half of a solve, over at least so many iterations.
_SLOWEST_FALL = 0.995
_FEWEST_ITERATIONS = 10


def _has_stopped_falling(history: Tensor) -> bool:
    """Whether the residuals of a sample hardly fall in the second half of a solve."""
    residuals = history[torch.isfinite(history)]
    half = len(residuals) // 2
    if half < _FEWEST_ITERATIONS:
        return False
    before, after = residuals[:half].min(), residuals[half:].min()
    return bool(after > before * _SLOWEST_FALL ** (len(residuals) - half))


@dataclass(frozen=True)
class LowRankInverse:
    r"""
    Estimate :math:`H = I - \sum_j u_j v_j^\top` of
    :math:`(I - \partial f)^{-1}` at the fixed point of each sample.

    :param torch.Tensor u: the :math:`u_j`, of shape :math:`(B, m, n)`.
    :param torch.Tensor v: the :math:`v_j`, of shape :math:`(B, m, n)`.
    """

    u: Tensor
    v: Tensor

    def apply(self, x: Tensor) -> Tensor:
        r"""Return :math:`H x` for packed states of shape :math:`(B, n)`."""
        return x - combinations(self.u, inner_products(self.v, x))

    def adjoint(self, x: Tensor) -> Tensor:
        r"""Return :math:`H^\top x` for packed states of shape :math:`(B, n)`."""
        return x - combinations(self.v, inner_products(self.u, x))


@dataclass(frozen=True, repr=False)
class Report:
    r"""
    How a solve of :math:`x = f(x)`, or of a linear system :math:`A v = b`, ended for
    each of the :math:`B` samples.

    :param tuple status: the :class:`Status <deepinv_equilibrium.Status>` of each
        sample. For a solve on an accelerator without a tolerance it is a sequence whose
        first reading makes the host wait for the end of the solve.
    :param torch.Tensor residual: relative residual
        :math:`\|f(x) - x\| / \max(\|f(x)\|, \|f(x_0) - x_0\|)`, or
        :math:`\|b - A v\| / \|b\|`, of shape :math:`(B,)`.
    :param torch.Tensor absolute_residual: :math:`\|f(x) - x\|` or
        :math:`\|b - A v\|`, of shape :math:`(B,)`.
    :param torch.Tensor iterations: iterations until the sample stopped, of shape
        :math:`(B,)`.
    :param torch.Tensor evaluations: evaluations of the step (in the backward,
        vector-Jacobian products) until the sample stopped, of shape :math:`(B,)`.
    :param torch.Tensor history: relative residual after each iteration, of shape
        (iterations, :math:`B`); NaN after a sample has stopped.
    :param torch.Tensor absolute_history: absolute residual after each iteration, in
        the shape of ``history``; NaN after a sample has stopped.
    :param torch.Tensor noise: relative error :math:`\|\tilde f(x) - f(x)\| /
        \|\tilde f(x)\|` of the step :math:`\tilde f` under ``torch.autocast``, of shape
        :math:`(B,)`. It is measured for samples whose residual has stopped falling
        above the tolerance, and NaN for the others. A sample whose residual is then at
        most 1.5 times this error counts as converged. Default: ``None``, if it was not
        measured.
    """

    status: Sequence[Status]
    residual: Tensor
    absolute_residual: Tensor
    iterations: Tensor
    evaluations: Tensor
    history: Tensor
    absolute_history: Tensor
    noise: Tensor | None = field(default=None, kw_only=True)

    @property
    def converged(self) -> Tensor:
        """Where the tolerance was met: a boolean tensor of shape (B,)."""
        return torch.tensor([s is Status.CONVERGED for s in self.status])

    @property
    def failed_count(self) -> int:
        """Number of samples whose status is a failure."""
        return sum(status.failed for status in self.status)

    def sentence(self, status: Status) -> str:
        """Describe a status of this solve, and for a failure the remedy."""
        return status.sentence

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
                lines.append(f"{status.name}: {self.sentence(status)}")
        return "\n".join(lines)


@dataclass
class BackwardSlot:
    """Holder of the report of the backward pass, which outlives the graph."""

    report: Report | None = None


@dataclass(frozen=True, repr=False)
class Solution(Report):
    r"""
    A fixed point and the report of the solve.

    :param torch.Tensor, tuple x: :math:`f` of the last iterate, or of the best one if
        the solver is accelerated. The adjoint has attached its gradient.
    :param torch.Tensor output: output of the step at that iterate, of shape
        :math:`(B, ...)`, if the step is a
        :class:`HasOutput <deepinv_equilibrium.fixed_points.HasOutput>`; else ``None``.
    :param LowRankInverse inverse_jacobian: estimate of
        :math:`(I - \partial f)^{-1}`, if the solver builds one, as
        :class:`Broyden <deepinv_equilibrium.Broyden>` does; else ``None``.
    """

    x: State = field(repr=False)
    output: Tensor | None = field(default=None, repr=False)
    inverse_jacobian: LowRankInverse | None = field(default=None, repr=False)
    _backward: BackwardSlot = field(default_factory=BackwardSlot, repr=False)

    @property
    def backward(self) -> Report | None:
        """Report of the backward pass; ``None`` before the pass has run, and always
        for an adjoint that solves no system."""
        return self._backward.report

    def sentence(self, status: Status) -> str:
        """Describe a status of this solve, and for a failure the remedy. Where the
        residual has stopped falling, more iterations are not the remedy."""
        if status is not Status.MAX_ITER:
            return status.sentence
        stagnant = [
            sample
            for sample, other in enumerate(self.status)
            if other is status
            and _has_stopped_falling(self.absolute_history[:, sample])
        ]
        if not stagnant:
            return status.sentence
        first = self.x[0] if isinstance(self.x, tuple) else self.x
        rounding = 100 * torch.finfo(first.dtype).eps
        if float(self.residual[stagnant].max()) <= rounding:
            return _ROUNDING_SENTENCE.format(str(first.dtype).removeprefix("torch."))
        return _STAGNATION_SENTENCE

    def detach(self) -> Solution:
        """Return a copy without a graph, whose tensors share no memory with ``x``."""
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
