"""What can be observed of the iterates of a step."""

from __future__ import annotations

from enum import IntEnum


class WellPosed(IntEnum):
    r"""
    What was observed of one sample, in a sentence:

    >>> from deepinv_equilibrium.certificates import WellPosed
    >>> print(WellPosed.UNIQUE.sentence)
    All starts converged to one point, which the step fixes.
    """

    UNIQUE = 0
    SEVERAL = 1
    UNRESOLVED = 2
    NOT_FIXED = 3
    NOT_CONVERGENT = 4

    @property
    def sentence(self) -> str:
        """What was seen and, where one is due, what to do about it."""
        return _SENTENCES[self]


_SENTENCES = {
    WellPosed.UNIQUE: "All starts converged to one point, which the step fixes.",
    WellPosed.SEVERAL: (
        "The starts converged to different points, each of which the step fixes: the "
        "result depends on the start. Always start in the same way (by default the "
        "models do), or make the step a contraction."
    ),
    WellPosed.UNRESOLVED: (
        "The starts converged so slowly that their limits cannot be told apart: give a "
        "solver with a smaller rtol and a larger max_iter."
    ),
    WellPosed.NOT_FIXED: (
        "The iterates settled, but the step does not return what it settled on: it is "
        "random, or keeps something from call to call. Call eval() on its networks."
    ),
    WellPosed.NOT_CONVERGENT: (
        "A start did not converge. Reduce the step size, relax the iteration "
        "(Picard(relaxation<1)), constrain the network, or give a solver with a larger "
        "max_iter if its residual still fell."
    ),
}
