"""Rates of the algorithms whose state is the image: PGD, GD and HQS."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from deepinv.optim.optim_iterators import GDIteration, HQSIteration, PGDIteration

from ...certificates import Bound, rates
from ...certificates.bounds import derived, outward, unproved
from ...certificates.convergence import Energy
from ...certificates.rates import averaged_operators, energy_decrease
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

    def averaged(self, layer: Layer) -> Bound:
        """Return the constant of a gradient step that an averaged denoiser follows."""
        return _averaged(layer, layer.data.mu.value, layer.data.L.value)

    def energy(self, layer: Layer) -> Energy | None:
        """Return what is proved of the energy, for an exact proximal operator."""
        ends = layer.data.mu.value, layer.data.L.value
        return _energy(layer, *ends, "f + lambda g")


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

    def averaged(self, layer: Layer) -> Bound:
        r"""Return :math:`\tau / 2` times the sum of the constants :math:`L` of the data
        fidelity and :math:`\lambda L_R` of the prior, if the energy is convex. For an
        :math:`\alpha`-averaged denoiser it is :math:`2 \alpha \lambda` instead of
        :math:`\lambda L_R`."""
        prior = layer.prior
        assert isinstance(prior, GradientConstants)
        mu, L, weight = layer.data.mu, layer.data.L, layer["lambda"]
        if prior.curvature is not None:
            lower, upper = self._curvature(layer)
            value = averaged_operators.averaged_gradient_step(upper, layer["stepsize"])
            terms = (mu, L, prior.curvature.lower, prior.curvature.upper)
            source = "tau (L + lambda L_R) / 2"
            return derived(value if lower >= 0 else math.inf, terms, source)
        if prior.denoiser is None:
            return unproved(prior.unknown)
        alpha = prior.denoiser.averagedness
        if mu.value < 0 or alpha.value > 1:
            return unproved("the denoiser is not proved to be nonexpansive")
        total = outward(L.value + 2 * alpha.value * weight)
        value = averaged_operators.averaged_gradient_step(total, layer["stepsize"])
        return derived(value, (mu, L, alpha), "tau (L + 2 alpha lambda) / 2")

    def energy(self, layer: Layer) -> Energy | None:
        """Return what is proved of the energy, for the gradient of a function."""
        prior, tau = layer.prior, layer["stepsize"]
        assert isinstance(prior, GradientConstants)
        if prior.curvature is None:
            return None
        lower, upper = self._curvature(layer)
        terms = (
            *(layer.data.mu, layer.data.L),
            *(prior.curvature.lower, prior.curvature.upper),
        )
        slope = energy_decrease.decrease(upper, tau)
        after = energy_decrease.value_after_steps(lower, upper, tau)
        distance = energy_decrease.value_of_residual(lower, upper, tau)
        return Energy(
            "f + lambda g",
            derived(lower, terms, "mu + lambda m", is_lower=True),
            derived(slope, terms, "1/tau - (L + lambda L_R)/2", is_lower=True),
            derived(after, terms, "value after k steps"),
            derived(distance, terms, "strong convexity"),
        )

    def _curvature(self, layer: Layer) -> tuple[float, float]:
        r"""Return :math:`\mu + \lambda m` and :math:`L + \lambda L_R`."""
        prior, weight = layer.prior, layer["lambda"]
        assert isinstance(prior, GradientConstants)
        assert prior.curvature is not None
        mu, m = layer.data.mu.value, weight * prior.curvature.lower.value
        upper = weight * prior.curvature.upper.value if weight else 0.0
        lower = mu + m - 2.0**-50 * (abs(mu) + abs(m))
        return lower, outward(layer.data.L.value + upper)


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

    def averaged(self, layer: Layer) -> Bound:
        r"""Return the constant of PGD on the Moreau envelope of the data fidelity,
        whose curvatures are :math:`s / (1 + \tau s)`."""
        return _averaged(layer, *_envelope(layer))

    def energy(self, layer: Layer) -> Energy | None:
        """Return what is proved of the energy, for an exact proximal operator."""
        formula = "Moreau envelope of f with parameter tau, plus lambda g"
        return _energy(layer, *_envelope(layer), formula)


def _envelope(layer: Layer) -> tuple[float, float]:
    r"""Return bounds of the curvature of the Moreau envelope of the data fidelity. The
    computed eigenvalues of the proximal operator of a convex function are at most 1,
    however they are rounded, so that the lower bound is at least 0."""
    tau, (mu, L) = layer["stepsize"], layer.prox_ends
    lower = outward(mu / (1 + tau * mu), is_lower=True)
    if layer.data.mu.value >= 0:
        lower = max(lower, 0.0)
    upper = 1 / tau if math.isinf(L) else L / (1 + tau * L)
    return lower, outward(upper)


def _averaged(layer: Layer, mu: float, L: float) -> Bound:
    r"""Return the averagedness constant of a step on a convex function with
    :math:`\mu I \preceq \nabla^2 f \preceq L I` that an averaged denoiser follows."""
    alpha = layer.prox.averagedness
    if mu < 0 or alpha.is_vacuous:
        return unproved("the denoiser is not proved to be averaged")
    forward = averaged_operators.averaged_gradient_step(L, layer["stepsize"])
    value = averaged_operators.averaged_composition(forward, alpha.value)
    value = averaged_operators.averaged_relaxation(value, layer["beta"])
    source = "a gradient step and an averaged denoiser"
    return derived(value, (layer.data.mu, layer.data.L, alpha), source)


def _energy(layer: Layer, mu: float, L: float, formula: str) -> Energy | None:
    r"""Return what is proved of :math:`f + \lambda g` along the steps of PGD with
    :math:`\mu I \preceq \nabla^2 f \preceq L I`. Nothing is proved for a denoiser that
    is not known to be a proximal operator, and for a relaxation."""
    D, tau = layer.prox, layer["stepsize"]
    if D.convexity is None or layer["beta"] != 1 or tau == 0:
        return None
    m = _per_step(D.convexity, tau)
    lower = mu + m - 2.0**-50 * (abs(mu) + abs(m))
    terms = (layer.data.mu, layer.data.L, D.convexity)
    slope = energy_decrease.decrease(L, tau, m)
    after = energy_decrease.value_after_steps(mu, L, tau, m)
    distance = energy_decrease.value_of_residual(mu, L, tau, m)
    return Energy(
        formula,
        derived(lower, terms, "mu + lambda m", is_lower=True),
        derived(slope, terms, "1/tau - (L - lambda m)/2", is_lower=True),
        derived(after, terms, "value after k steps"),
        derived(distance, terms, "strong convexity"),
    )


def _per_step(convexity: Bound, tau: float) -> float:
    r"""Return the curvature of :math:`\lambda g` from that of
    :math:`\tau \lambda g`."""
    return outward(convexity.value / tau, is_lower=True)
