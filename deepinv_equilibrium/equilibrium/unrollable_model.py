"""Models that are unrolled for a number of iterations, or solved to equilibrium."""

from __future__ import annotations

from ..fixed_points import Restarts, Unrolled
from ..fixed_points.argument_checks import require_count
from .configuration import Equilibrium
from .equilibrium_model import EquilibriumModel


class UnrollableModel(EquilibriumModel):
    r"""
    Base class of the equilibrium models that take ``max_iter`` in the place of ``DEQ``.

    ``max_iter=T`` makes :math:`T` iterations and records all of them: the solver
    ``Restarts(max_iter=T)`` with the adjoint ``Unrolled()``. Both ``max_iter`` and
    ``DEQ`` can be set at any time, and take effect at the next call.

    :param int max_iter: number of iterations to unroll.
    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: the
        equilibrium, in the place of ``max_iter``.
    :param bool show_progress_bar: whether to show a progress bar during the iterations.
    :raises TypeError: if ``DEQ`` is of another type.
    :raises ValueError: if not exactly one of ``max_iter`` and ``DEQ`` is given, or
        ``max_iter`` is not a positive integer.
    """

    def __init__(
        self,
        max_iter: int | None = None,
        DEQ: Equilibrium | None = None,
        show_progress_bar: bool = False,
    ) -> None:
        if (max_iter is None) == (DEQ is None):
            raise ValueError(
                "give either max_iter, to unroll so many iterations, or DEQ, e.g. "
                f"deq.ReTune(layers=8, restarts=8), got {max_iter=} and {DEQ=}."
            )
        super().__init__(
            unrolled(max_iter) if max_iter is not None else DEQ, show_progress_bar
        )

    @property
    def max_iter(self) -> int | None:
        """Number of iterations that are unrolled; ``None`` with another ``DEQ``."""
        is_unrolled = isinstance(self.DEQ.adjoint, Unrolled)
        return self.DEQ.solver.max_iter if is_unrolled else None

    @max_iter.setter
    def max_iter(self, iterations: int) -> None:
        self.DEQ = unrolled(iterations)


def unrolled(max_iter: int) -> Equilibrium:
    r"""
    Return the configuration that records all of a number of iterations.

    :param int max_iter: number of iterations, at least 1.
    :return: (Equilibrium) ``Restarts(max_iter)`` with the adjoint ``Unrolled()``.
    :raises ValueError: if ``max_iter`` is not a positive integer.
    """
    require_count("max_iter", max_iter, 1)
    return Equilibrium(Restarts(max_iter=max_iter), Unrolled())
