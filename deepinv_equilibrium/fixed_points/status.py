"""How a solve ended, sample by sample, in a sentence with a remedy."""

from __future__ import annotations

from enum import IntEnum


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
