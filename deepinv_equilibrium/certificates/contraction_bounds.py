"""How a model's step contracts: the data that a model returns to be certified."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from deepinv.physics import Physics

from .bounds import Bound, outward
from .convergence import Convergence, Energy, proved_convergence


@dataclass(frozen=True)
class Term:
    r"""
    One quantity that a rate is computed from.

    :param str name: the quantity in words, such as ``"denoiser"``.
    :param str symbol: its symbol in the formulas, such as ``"L_D"``.
    :param Bound bound: its bound.
    :param bool exact: whether ``bound.value`` is the quantity itself, such as a step
        size. Default: ``False``.
    """

    name: str
    symbol: str
    bound: Bound
    exact: bool = False


_NOT_DERIVED = Bound(math.inf, source="not derived for this model")


@dataclass(frozen=True)
class LayerRate:
    r"""
    What is proved of one layer of a block.

    :param Bound rate: Lipschitz constant of the layer in its state.
    :param Bound sensitivity: Lipschitz constant of the layer in the measurement.
    :param tuple terms: each :class:`Term` that the two constants are computed from.
    :param Bound averaged: the layer's averagedness constant :math:`\alpha`; 1 or more
        if none is proved.
    :param Energy energy: the energy that the layer decreases, if one is known.
    """

    rate: Bound
    sensitivity: Bound
    terms: tuple[Term, ...] = ()
    averaged: Bound = _NOT_DERIVED
    energy: Energy | None = None


_SAME_NORM = Bound(1.0, source="the solver's state is that of the norm")


@dataclass(frozen=True)
class Contraction:
    r"""
    How a model's step contracts. The step is the whole block of layers.

    :param Bound rate: upper bound :math:`\rho` of the Lipschitz constant of the step.
        It is infinite if nothing is proved; its source is then the reason.
    :param str norm: the norm in which the rate holds.
    :param tuple layers: the :class:`LayerRate` of each layer, in the order of the
        layers. Their rates multiply to the rate of the block.
    :param Bound stability: Lipschitz constant of the reconstruction :math:`x^\star`,
        the exact fixed point, in the measurement:
        :math:`\|x^\star(y_1) - x^\star(y_2)\| \le \text{stability} \|y_1 - y_2\|`.
    :param Bound residual_factor: a constant :math:`c` such that the residuals
        :math:`r_k = \|T(s_k) - s_k\|` of the plain iteration :math:`s_{k+1} = T(s_k)`
        satisfy :math:`r_k \le c \rho^k r_0` in the :math:`\ell_2` norm of the
        solver's state. It is 1 if the rate holds in that norm, which is the default.
    :param bool in_state: whether the rate holds in the :math:`\ell_2` norm of the
        solver's state. Default: ``True``.
    :param tuple notes: sentences about the assumptions, printed in the report.
    :param Bound averaged: upper bound of a constant :math:`\alpha` such that the step
        is :math:`\alpha`-averaged, :math:`T = (1 - \alpha) I + \alpha N` with a
        nonexpansive :math:`N`; 1 or more if none is proved.
    :param Energy energy: what is proved of an energy along the steps. Default:
        ``None``, no energy is known.
    """

    rate: Bound
    norm: str
    layers: tuple[LayerRate, ...] = ()
    stability: Bound = _NOT_DERIVED
    residual_factor: Bound = _SAME_NORM
    in_state: bool = True
    notes: tuple[str, ...] = ()
    averaged: Bound = _NOT_DERIVED
    energy: Energy | None = None

    @property
    def convergence(self) -> Convergence:
        """The strongest property of the plain iteration that is proved."""
        return proved_convergence(self.rate, self.averaged, self.energy)

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of all layers. A term that all layers share is listed once; the
        symbols of the others end in the number of their layer."""
        first = self.layers[0].terms if self.layers else ()
        shared = [t for t in first if all(t in layer.terms for layer in self.layers)]
        own = [
            Term(t.name, f"{t.symbol}_{k}", t.bound, t.exact)
            for k, layer in enumerate(self.layers, 1)
            for t in layer.terms
            if t not in shared
        ]
        return (*shared, *own)


class Contracting(Protocol):
    """A model that states how its step contracts, such as an optimiser of
    :mod:`deepinv_equilibrium.optim` with ``DEQ``."""

    def contraction(self, physics: Physics, img_size: Sequence[int]) -> Contraction:
        r"""
        Return how the step contracts with the current weights and parameters.

        :param deepinv.physics.Physics physics: the physics.
        :param Sequence img_size: size :math:`(C, H, W)` of the images.
        :return: the contraction.
        """
        ...


def steps_to(rate: float, factor: float) -> int:
    r"""
    Return the least :math:`k \ge 1` with :math:`\rho^k \le` ``factor``.

    :param float rate: :math:`\rho`, in :math:`[0, 1)`.
    :param float factor: in :math:`(0, 1)`.
    :return: the number of steps. Rounding may add one step; it never removes one.
    """
    if rate <= factor:
        return 1
    return math.ceil(outward(math.log(factor) / math.log(rate)))
