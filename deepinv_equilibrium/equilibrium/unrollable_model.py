"""Base class of models that unroll iterations or are solved to equilibrium."""

from __future__ import annotations

from ..fixed_points import Restarts, Unrolled
from ..fixed_points.argument_checks import require_count
from .configuration import Equilibrium
from .equilibrium_model import EquilibriumModel


class UnrollableModel(EquilibriumModel):
    r"""
    Base class of equilibrium models that take either ``max_iter`` or ``DEQ``.

    With ``max_iter=T`` the model makes :math:`T` iterations, and the gradient passes
    through all of them: the solver is ``Restarts(max_iter=T)``, the adjoint
    ``Unrolled()``. Both ``max_iter`` and ``DEQ`` can be set at any time. A new value
    takes effect at the next call.

    :param int max_iter: number :math:`T` of iterations to unroll.
    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: solver,
        adjoint and number of layers, instead of ``max_iter``.
    :param bool show_progress_bar: whether to show a progress bar during the iterations.
    :raises TypeError: if ``DEQ`` is of another type.
    :raises ValueError: if both or neither of ``max_iter`` and ``DEQ`` are given, or
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
                "give either max_iter, the number of iterations to unroll, or DEQ, "
                f"e.g. deq.ReTune(layers=8, restarts=8), got {max_iter=} and {DEQ=}."
            )
        super().__init__(
            unrolled(max_iter) if max_iter is not None else DEQ, show_progress_bar
        )

    @property
    def max_iter(self) -> int | None:
        """Number of iterations that are unrolled; ``None`` if the adjoint of ``DEQ`` is
        not ``Unrolled()``."""
        is_unrolled = isinstance(self.DEQ.adjoint, Unrolled)
        return self.DEQ.solver.max_iter if is_unrolled else None

    @max_iter.setter
    def max_iter(self, iterations: int) -> None:
        self.DEQ = unrolled(iterations)


def unrolled(max_iter: int) -> Equilibrium:
    r"""
    Return the configuration that makes and differentiates a number of iterations.

    :param int max_iter: number of iterations, at least 1.
    :return: (Equilibrium) ``Restarts(max_iter)`` with the adjoint ``Unrolled()``.
    :raises ValueError: if ``max_iter`` is not a positive integer.
    """
    require_count("max_iter", max_iter, 1)
    return Equilibrium(Restarts(max_iter=max_iter), Unrolled())
