"""What a model says of its contraction, so that it can be certified."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from deepinv.physics import Physics

from .bounds import Bound


@dataclass(frozen=True)
class Term:
    r"""
    One quantity that a rate rests on.

    :param str name: in words, e.g. ``"denoiser"``.
    :param str symbol: in the formulas, e.g. ``"L_D"``.
    :param Bound bound: its value, and what that rests on.
    :param bool exact: whether it is the value itself, such as a step size.
    """

    name: str
    symbol: str
    bound: Bound
    exact: bool = False


@dataclass(frozen=True)
class LayerRate:
    r"""
    One layer of a block.

    :param Bound rate: Lipschitz constant of the layer in its state.
    :param Bound sensitivity: Lipschitz constant of the layer in the measurement.
    :param tuple terms: the :class:`Term` s that they rest on.
    """

    rate: Bound
    sensitivity: Bound
    terms: tuple[Term, ...] = ()


_NOT_DERIVED = Bound(math.inf, source="not derived for this model")
_SAME_NORM = Bound(1.0, source="the solver's state is that of the norm")


@dataclass(frozen=True)
class Contraction:
    r"""
    How a model's step contracts.

    :param Bound rate: upper bound of the Lipschitz constant of the step, which is the
        whole block of layers; infinite where nothing is proved, with the reason as its
        source.
    :param str norm: the norm that the rate holds in.
    :param tuple layers: the layers of the block, in their order, whose rates multiply
        to that of the block.
    :param Bound stability: upper bound of how far the reconstruction, the exact fixed
        point, moves with the measurement:
        :math:`\|x^\star(y_1) - x^\star(y_2)\| \le \text{stability} \|y_1 - y_2\|`.
    :param Bound residual_factor: :math:`c` such that the residuals
        :math:`r_k = \|T(s_k) - s_k\|` of the plain iteration :math:`s_{k+1} = T(s_k)`
        satisfy :math:`r_k \le c \rho^k r_0` in the :math:`\ell_2` norm of the
        solver's state; 1 where that is the norm of the rate.
    :param bool in_state: whether the norm is the :math:`\ell_2` norm of the solver's
        state.
    :param tuple notes: sentences about what is assumed.
    """

    rate: Bound
    norm: str
    layers: tuple[LayerRate, ...] = ()
    stability: Bound = _NOT_DERIVED
    residual_factor: Bound = _SAME_NORM
    in_state: bool = True
    notes: tuple[str, ...] = ()

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of all layers: once where all layers share one, else with the
        number of the layer in the symbol."""
        shared = [t for t in self._first if all(t in la.terms for la in self.layers)]
        own = [
            Term(t.name, f"{t.symbol}_{k}", t.bound, t.exact)
            for k, layer in enumerate(self.layers, 1)
            for t in layer.terms
            if t not in shared
        ]
        return (*shared, *own)

    @property
    def _first(self) -> tuple[Term, ...]:
        return self.layers[0].terms if self.layers else ()


class Contracting(Protocol):
    """A model that says how it contracts; those of :mod:`deepinv_equilibrium.optim`
    do."""

    def contraction(self, physics: Physics, img_size: Sequence[int]) -> Contraction:
        r"""
        :param deepinv.physics.Physics physics: the physics.
        :param Sequence img_size: :math:`(C, H, W)` of the images.
        :return: how its step contracts, as the model stands.
        """
        ...
