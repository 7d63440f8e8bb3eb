"""What a scheme of contraction rates is: constants of layers in, bounds out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from deepinv.optim import OptimIterator

from ...certificates import Bound, LayerRate, Term, rates
from ...certificates.bounds import derived, outward, unproved
from ...certificates.rates.data_sensitivity import prox_sensitivity
from .data_constants import DataConstants
from .prior_constants import GradientConstants, ProxConstants


@dataclass(frozen=True)
class Layer:
    r"""
    The constants and parameters of one layer.

    :param DataConstants data: of its data fidelity.
    :param ProxConstants, GradientConstants prior: of its prior.
    :param float tau: step size.
    :param float weight: :math:`\lambda`.
    :param float beta: relaxation.
    """

    data: DataConstants
    prior: ProxConstants | GradientConstants
    tau: float
    weight: float
    beta: float

    @property
    def prox(self) -> ProxConstants:
        """Of the prior, where the scheme takes its proximal operator."""
        assert isinstance(self.prior, ProxConstants)
        return self.prior

    @property
    def prox_gain(self) -> Bound:
        r"""Lipschitz constant of :math:`\operatorname{prox}_{\tau f}` in the data."""
        data = self.data
        value = prox_sensitivity(
            data.squared_norm.value, self.tau, data.precision, data.kappa
        )
        return derived(value, (data.squared_norm,), "proximal operator in the data")

    @property
    def gradient_gain(self) -> Bound:
        r"""That of :math:`\tau \nabla f`, :math:`\tau \|A\| / \sigma^2`."""
        norm = math.sqrt(self.data.squared_norm.value)
        value = outward(self.tau * norm * self.data.precision)
        return derived(value, (self.data.squared_norm,), "tau ||A|| / sigma^2")


class RateScheme:
    """How the layers of an algorithm contract, in its state; the state is the image
    unless a subclass says otherwise."""

    iterator: ClassVar[type[OptimIterator]]
    """The iteration that it is about; a subclass with another one is not covered."""
    norm = "l2 norm of the image x"
    in_state = True
    """Whether that is the norm of the solver's state."""
    takes_prior_gradient = False
    """Whether it takes the gradient of the prior in the place of its proximal
    operator."""
    solves_prox = False
    """Whether it takes the proximal operator of the data fidelity."""
    lipschitz_only = False
    """Whether of a denoiser only the Lipschitz constant matters."""

    def arrange(self, layers: Sequence[Layer]) -> list[Layer]:
        """The layers as the theory sees them."""
        return list(layers)

    def constants(self, layer: Layer) -> tuple[Bound, Bound]:
        """Lipschitz constants of a layer in its state and in the measurement."""
        raise NotImplementedError

    def terms(self, layer: Layer) -> tuple[Term, ...]:
        """What they rest on."""
        prior = layer.prior.terms[:1] if self.lipschitz_only else layer.prior.terms
        terms = [*layer.data.terms, *prior]
        terms.append(Term("step size", "tau", Bound(layer.tau), exact=True))
        if self.takes_prior_gradient:
            weight = Bound(layer.weight)
            terms.append(Term("weight of the prior", "lambda", weight, exact=True))
        elif layer.beta != 1:
            terms.append(Term("relaxation", "beta", Bound(layer.beta), exact=True))
        return tuple(terms)

    def image_move(self, layers: Sequence[Layer], before: Bound, after: Bound) -> Bound:
        r"""
        How far the image moves with the measurement.

        :param Sequence layers: the arranged layers.
        :param Bound before: how far the state before the last layer moves.
        :param Bound after: how far the state after it does.
        """
        return after

    def residual_factor(self, layers: Sequence[Layer], first: Bound) -> Bound:
        """How much larger the solver's residuals may be, where its state is not that
        of the norm; ``first`` is the rate of the first layer."""
        return Bound(1.0, source="the solver's state is that of the norm")


def layer_rate(scheme: RateScheme, layer: Layer) -> LayerRate:
    r"""
    :param RateScheme scheme: the algorithm.
    :param Layer layer: one of its layers.
    :return: its rate; infinite, with the reason, where a part has no proved constant.
    """
    rate, sensitivity = scheme.constants(layer)
    terms = scheme.terms(layer)
    if layer.data.L.is_vacuous:
        rate = sensitivity = unproved(layer.data.L.source)
    elif rate.is_vacuous:
        missing = [
            t.bound for t in terms if t.bound.is_vacuous and not t.bound.is_lower
        ]
        rate = unproved(missing[0].source) if missing else rate
    return LayerRate(rate, sensitivity, terms)


def relaxed(rate: Bound, beta: float) -> Bound:
    r"""Of the rate of a step, that of the step relaxed by :math:`\beta`."""
    if beta == 1:
        return rate
    source = f"|1 - beta| + beta ({rate.source})"
    return derived(rates.relaxed(rate.value, beta), (rate,), source)


def times(factor: float, *bounds: Bound) -> Bound:
    """The product of bounds and a number."""
    value = factor * math.prod(bound.value for bound in bounds)
    source = " times ".join(bound.source for bound in bounds)
    return derived(outward(value), bounds, source)


def best(candidates: Sequence[Bound]) -> Bound:
    """The smallest of those that are proved, or of all where none is."""
    known = [bound for bound in candidates if not bound.is_vacuous]
    proved = [bound for bound in known if bound.is_certified]
    return min(proved or known or candidates, key=float)
