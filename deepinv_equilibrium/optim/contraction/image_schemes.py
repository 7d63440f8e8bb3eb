"""Rates of the algorithms whose state is the image: PGD, GD and HQS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deepinv.optim.optim_iterators import GDIteration, HQSIteration, PGDIteration

from ...certificates import Bound, rates
from ...certificates.bounds import derived, outward, unproved
from .prior_constants import GradientConstants
from .rate_scheme import (
    STEPSIZE,
    WEIGHT,
    Layer,
    LayerParts,
    RateScheme,
    best,
    relaxed,
    times,
)


class ProximalGradientScheme(RateScheme):
    r"""
    Rate of PGD: with :math:`\mu I \preceq \nabla^2 f \preceq L I` and an
    :math:`L_D`-Lipschitz denoiser, :math:`L_D \max(|1 - \tau \mu|, |1 - \tau L|)`.
    """

    iterator = PGDIteration
    lipschitz_only = True

    def constants(self, layer: Layer) -> tuple[Bound, Bound]:
        """Return the constants of a gradient step that the denoiser follows."""
        data, L_D, beta = layer.data, layer.prox.lipschitz, layer["beta"]
        value = rates.proximal_gradient(
            data.mu.value, data.L.value, layer["stepsize"], L_D.value
        )
        formula = "L_D max(|1 - tau mu|, |1 - tau L|)"
        rate = derived(value, (data.mu, data.L, L_D), formula)
        return relaxed(rate, beta), times(beta, L_D, layer.gradient_gain)


class GradientDescentScheme(RateScheme):
    """Rate of GD, with the gradient of a convex prior or with RED."""

    iterator = GDIteration
    parameters = (STEPSIZE, WEIGHT)

    def read_prior(
        self,
        parts: LayerParts,
        parameters: Mapping[str, float],
        img_size: Sequence[int],
    ) -> GradientConstants:
        """Return the constants of the prior's gradient."""
        return GradientConstants.of(parts.prior, img_size)

    def constants(self, layer: Layer) -> tuple[Bound, Bound]:
        """Return the smallest rate that is proved: with the prior's gradient as the
        gradient of a convex function, or as :math:`I - D`."""
        prior = layer.prior
        assert isinstance(prior, GradientConstants)
        ends = layer.data.mu, layer.data.L
        numbers = ends[0].value, ends[1].value, layer["stepsize"]
        weight = layer["lambda"]
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
    r"""Rate of HQS, :math:`L_D / (1 + \tau \mu)`."""

    iterator = HQSIteration
    solves_prox = True
    lipschitz_only = True

    def constants(self, layer: Layer) -> tuple[Bound, Bound]:
        """Return the constants of a proximal step that the denoiser follows."""
        data, L_D, beta = layer.data, layer.prox.lipschitz, layer["beta"]
        value = rates.half_quadratic_splitting(
            layer.prox_ends[0], layer["stepsize"], L_D.value
        )
        rate = derived(value, (data.mu, L_D), "L_D / (1 + tau mu)")
        return relaxed(rate, beta), times(beta, L_D, layer.prox_gain)
