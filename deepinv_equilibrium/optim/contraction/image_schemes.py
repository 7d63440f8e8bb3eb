"""The contraction of the algorithms whose state is the image."""

from __future__ import annotations

from deepinv.optim.optim_iterators import GDIteration, HQSIteration, PGDIteration

from ...certificates import Bound, rates
from ...certificates.bounds import derived, outward, unproved
from .prior_constants import GradientConstants
from .rate_scheme import Layer, RateScheme, best, relaxed, times


class ProximalGradientScheme(RateScheme):
    """Of PGD."""

    iterator = PGDIteration
    lipschitz_only = True

    def constants(self, layer: Layer) -> tuple[Bound, Bound]:
        """A gradient step of the data fidelity, then the denoiser."""
        data, L_D = layer.data, layer.prox.lipschitz
        rate = derived(
            rates.proximal_gradient(data.mu.value, data.L.value, layer.tau, L_D.value),
            (data.mu, data.L, L_D),
            "L_D max(|1 - tau mu|, |1 - tau L|)",
        )
        return relaxed(rate, layer.beta), times(layer.beta, L_D, layer.gradient_gain)


class GradientDescentScheme(RateScheme):
    """Of GD, with the gradient of a convex prior or with RED."""

    iterator = GDIteration
    takes_prior_gradient = True

    def constants(self, layer: Layer) -> tuple[Bound, Bound]:
        """The best of what is proved of the prior's gradient: as that of a convex
        function, or as :math:`I - D`."""
        prior = layer.prior
        assert isinstance(prior, GradientConstants)
        ends = layer.data.mu, layer.data.L
        numbers = ends[0].value, ends[1].value, layer.tau
        weight = layer.weight
        candidates = []
        if prior.curvature is not None:
            m, L_R = prior.curvature.lower, prior.curvature.upper
            value = rates.convex_gradient_descent(
                *numbers, weight * m.value, weight * L_R.value
            )
            formula = "max(|1 - tau (mu + lambda m)|, |1 - tau (L + lambda L_R)|)"
            candidates.append(derived(value, (*ends, m, L_R), formula))
        if prior.denoiser is not None:
            D = prior.denoiser
            value = rates.red(*numbers, weight, D.lipschitz.value)
            formula = "max(|1 - tau (lambda + s)|) over s in {mu, L} + tau lambda L_D"
            candidates.append(derived(value, (*ends, D.lipschitz), formula))
            if D.reflected.value <= 1:
                value = rates.red_firmly_nonexpansive(*numbers, weight)
                formula = (
                    "max(|1 - tau (lambda/2 + s)|) over s in {mu, L} + tau lambda/2"
                )
                candidates.append(derived(value, (*ends, D.reflected), formula))
            if not D.residual.is_vacuous:
                eps = outward(weight * D.residual.value)
                value = rates.gradient_descent(*numbers, eps)
                formula = "max(|1 - tau mu|, |1 - tau L|) + tau lambda eps"
                candidates.append(derived(value, (*ends, D.residual), formula))
        rate = best(candidates) if candidates else unproved(prior.unknown)
        return rate, layer.gradient_gain


class HalfQuadraticScheme(RateScheme):
    """Of HQS."""

    iterator = HQSIteration
    solves_prox = True
    lipschitz_only = True

    def constants(self, layer: Layer) -> tuple[Bound, Bound]:
        """The proximal operator of the data fidelity, then the denoiser."""
        data, L_D = layer.data, layer.prox.lipschitz
        value = rates.half_quadratic_splitting(data.mu.value, layer.tau, L_D.value)
        rate = derived(value, (data.mu, L_D), "L_D / (1 + tau mu)")
        return relaxed(rate, layer.beta), times(layer.beta, L_D, layer.prox_gain)
