"""Base of the schemes: from the constants of one layer to its Lipschitz constants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from deepinv.optim import DataFidelity, OptimIterator, Prior

from ...certificates import Bound, LayerRate, Term, rates
from ...certificates.bounds import derived, outward, unproved
from ...certificates.convergence import Energy
from ...certificates.rates.data_sensitivity import prox_sensitivity
from .data_constants import DataConstants
from .prior_constants import ProxConstants


class NotCoveredError(Exception):
    """The theory of a scheme does not cover a part or a parameter of the optimiser."""


@dataclass(frozen=True)
class LayerParts:
    r"""
    What one layer of an optimiser iterates with.

    :param deepinv.optim.DataFidelity data_fidelity: the data fidelity.
    :param deepinv.optim.Prior prior: the prior.
    :param Mapping parameters: the parameters of the algorithm, under deepinv's keys.
    """

    data_fidelity: DataFidelity
    prior: Prior
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    r"""
    A number of the algorithm that a scheme reads.

    :param str key: the key in ``params_algo``. A layer without the key has the value 1.
    :param str symbol: the symbol in formulas and in reports.
    :param str name: the description in reports.
    :param bool printed: whether reports have a line for the parameter. A parameter that
        only enters the constants of the prior has no line.
    :param float neutral: the value for which reports omit the line, if there is one.
    """

    key: str
    symbol: str
    name: str
    printed: bool = True
    neutral: float | None = None

    def term(self, value: float) -> Term | None:
        """Return the line of the report, or None where the report omits it."""
        if not self.printed or value == self.neutral:
            return None
        return Term(self.name, self.symbol, Bound(value), exact=True)


STEPSIZE = Parameter("stepsize", "tau", "step size")
WEIGHT = Parameter("lambda", "lambda", "weight of the prior")
PROX_WEIGHT = Parameter("lambda", "lambda", "weight of the prior", printed=False)
RELAXATION = Parameter("beta", "beta", "relaxation", neutral=1.0)


class PriorConstants(Protocol):
    """Constants of the prior, of the kind that a scheme needs."""

    @property
    def terms(self) -> tuple[Term, ...]:
        """The lines of the report."""


@dataclass(frozen=True)
class Layer:
    r"""
    The constants and the parameters of one layer. ``layer["stepsize"]`` is a parameter.

    :param DataConstants data: constants of the data fidelity.
    :param PriorConstants prior: constants of the prior.
    :param Mapping parameters: the numbers that the scheme declares in
        :attr:`RateScheme.parameters`, by key.
    """

    data: DataConstants
    prior: PriorConstants
    parameters: Mapping[str, float]

    def __getitem__(self, key: str) -> float:
        return self.parameters[key]

    @property
    def prox(self) -> ProxConstants:
        """Constants of the prior's proximal operator, for schemes that read these."""
        assert isinstance(self.prior, ProxConstants)
        return self.prior

    @property
    def prox_ends(self) -> tuple[float, float]:
        """The curvatures of the data fidelity whose proximal operator is computed; see
        :meth:`DataConstants.prox_ends`."""
        return self.data.prox_ends(self["stepsize"])

    @property
    def prox_gain(self) -> Bound:
        r"""Lipschitz constant of :math:`\operatorname{prox}_{\tau f}` in the data."""
        data = self.data
        value = prox_sensitivity(
            data.squared_norm.value, self["stepsize"], data.precision, data.kappa
        )
        value = outward(value, relative=data.rounding + data.prox_rounding)
        return derived(value, (data.squared_norm,), "proximal operator in the data")

    @property
    def gradient_gain(self) -> Bound:
        r"""Lipschitz constant of :math:`\tau \nabla f` in the data,
        :math:`\tau \|A\| / \sigma^2`."""
        norm = math.sqrt(self.data.squared_norm.value)
        value = outward(self["stepsize"] * norm * self.data.precision)
        return derived(value, (self.data.squared_norm,), "tau ||A|| / sigma^2")


class RateScheme:
    """
    How an algorithm contracts: Lipschitz constants of its layers.

    A subclass names the iterator that it is about and the :attr:`parameters` that it
    reads, and implements :meth:`constants`. Unless it overrides more, the state is the
    image and a layer takes the proximal operator of the prior.
    """

    iterator: ClassVar[type[OptimIterator]]
    """The iterator; subclasses of it are not covered."""
    parameters: ClassVar[tuple[Parameter, ...]] = (STEPSIZE, PROX_WEIGHT, RELAXATION)
    """The parameters that the scheme reads, in the order of the report."""
    norm = "l2 norm of the image x"
    """The norm in which the rate holds."""
    in_state = True
    """Whether that norm is the l2 norm of the solver's state."""
    solves_prox = False
    """Whether a layer takes the proximal operator of the data fidelity."""
    lipschitz_only = False
    """Whether the rate depends on a denoiser only through its Lipschitz constant."""

    def read_prior(
        self,
        parts: LayerParts,
        parameters: Mapping[str, float],
        img_size: Sequence[int],
    ) -> PriorConstants:
        r"""
        Return the constants of the prior that the scheme needs.

        :param LayerParts parts: the layer.
        :param Mapping parameters: the values of :attr:`parameters`, by key.
        :param Sequence img_size: :math:`(C, H, W)` of the images.
        :raises NotCoveredError: if a part is not covered.
        :raises UncertifiableModuleError: if nothing can be proved about a part.
        """
        weight = parameters["stepsize"] * parameters["lambda"]
        return ProxConstants.of(parts.prior, weight, img_size)

    def arrange(self, layers: Sequence[Layer]) -> list[Layer]:
        """
        Return the layers as the theory sees them.

        :raises NotCoveredError: if the theory does not cover these layers as a block.
        """
        return list(layers)

    def constants(self, layer: Layer) -> tuple[Bound, Bound]:
        """Return Lipschitz constants of a layer, in the state and in the data."""
        raise NotImplementedError

    def averaged(self, layer: Layer) -> Bound:
        r"""Return the averagedness constant of a layer, for a data fidelity with
        certified curvatures; see
        ``deepinv_equilibrium.certificates.rates.averaged_operators``."""
        return unproved("not derived for this algorithm")

    def energy(self, layer: Layer) -> Energy | None:
        r"""Return what is proved of the energy of a layer; ``None`` if the layer is not
        known to decrease one."""
        return None

    def terms(self, layer: Layer) -> tuple[Term, ...]:
        """Return the lines of the report that the constants depend on."""
        prior = layer.prior.terms[:1] if self.lipschitz_only else layer.prior.terms
        numbers = [p.term(layer[p.key]) for p in self.parameters]
        return (*layer.data.terms, *prior, *(term for term in numbers if term))

    def image_move(self, layers: Sequence[Layer], before: Bound, after: Bound) -> Bound:
        r"""
        Return how far the image moves with the data.

        :param Sequence layers: the arranged layers.
        :param Bound before: how far the state before the last layer moves.
        :param Bound after: how far the state after the last layer moves.
        """
        return after

    def residual_factor(self, layers: Sequence[Layer], first: Bound) -> Bound:
        """
        Return the constant by which residuals of the solver's state may exceed those in
        the norm of the rate.

        :param Sequence layers: the arranged layers.
        :param Bound first: rate of the first layer.
        """
        return Bound(1.0, source="the solver's state is that of the norm")


def layer_rate(scheme: RateScheme, layer: Layer) -> LayerRate:
    r"""
    Return what is proved of a layer. Its rate is infinite, with the reason as its
    source, where a part has no proved constant.

    :param RateScheme scheme: the scheme of the algorithm.
    :param Layer layer: the layer.
    """
    rate, sensitivity = scheme.constants(layer)
    terms = scheme.terms(layer)
    if layer.data.L.is_vacuous:
        nothing = unproved(layer.data.L.source)
        return LayerRate(nothing, nothing, terms)
    if rate.is_vacuous:
        missing = [
            t.bound for t in terms if t.bound.is_vacuous and not t.bound.is_lower
        ]
        rate = unproved(missing[0].source) if missing else rate
    averaged, energy = scheme.averaged(layer), scheme.energy(layer)
    return LayerRate(rate, sensitivity, terms, averaged, energy)


def relaxed(rate: Bound, beta: float) -> Bound:
    r"""Return the rate of a step that is relaxed by :math:`\beta`."""
    if beta == 1:
        return rate
    source = f"|1 - beta| + beta ({rate.source})"
    return derived(rates.relaxed(rate.value, beta), (rate,), source)


def times(factor: float, *bounds: Bound) -> Bound:
    """Return the product of a number and bounds."""
    value = factor * math.prod(bound.value for bound in bounds)
    source = " times ".join(bound.source for bound in bounds)
    return derived(outward(value), bounds, source)


def best(candidates: Sequence[Bound]) -> Bound:
    """Return the smallest certified bound, else the smallest finite one."""
    known = [bound for bound in candidates if not bound.is_vacuous]
    proved = [bound for bound in known if bound.is_certified]
    return min(proved or known or candidates, key=float)
