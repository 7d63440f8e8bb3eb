"""The contraction of Douglas-Rachford splitting and of ADMM."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from deepinv.optim.optim_iterators import ADMMIteration, DRSIteration

from ...certificates import Bound
from ...certificates.bounds import derived, outward, unproved
from ...certificates.rates import douglas_rachford_rates as dr
from .prior_constants import ProxConstants
from .rate_scheme import Layer, RateScheme, best, times


class DouglasRachfordScheme(RateScheme):
    """Of DRS, in z."""

    iterator = DRSIteration
    norm = "l2 norm of the Douglas-Rachford variable z"
    solves_prox = True

    def constants(self, layer: Layer) -> tuple[Bound, Bound]:
        r"""In the measurement, :math:`D(2u - z) - u` changes by half of what
        :math:`N = 2D - I` does, as :math:`u` moves twice."""
        rate = self._rate(layer)
        return rate, times(layer.beta, reflected_constant(layer.prox), layer.prox_gain)

    def _rate(self, layer: Layer) -> Bound:
        D, beta, ends = layer.prox, layer.beta, (layer.data.mu, layer.data.L)
        numbers = ends[0].value, ends[1].value, layer.tau
        c = "c = max(|1 - tau s| / (1 + tau s)) over s in {mu, L}"
        candidates: list[tuple[Callable[..., float], Bound, str]] = [
            (dr.douglas_rachford, D.lipschitz, "max|1 - beta/(1+tau s)| + beta L_D c"),
            (dr.douglas_rachford_reflected, D.reflected, "|1-beta/2| + beta/2 L_N c"),
            (
                dr.douglas_rachford_residual,
                D.residual,
                "Ryu et al. (2019), Theorem 2, or max|1 - beta tau s/(1+tau s)| + "
                "beta eps c",
            ),
        ]
        return best(
            [
                derived(
                    rate(*numbers, bound.value, beta), (*ends, bound), f"{how}, {c}"
                )
                for rate, bound, how in candidates
            ]
        )

    def image_move(self, layers: Sequence[Layer], before: Bound, after: Bound) -> Bound:
        r"""That of :math:`x = D(2 \operatorname{prox}_{\tau f}(z) - z)`, with
        :math:`z` before the last layer."""
        last = layers[-1]
        data = last.data
        c = dr.reflection(data.mu.value, data.L.value, last.tau)
        inner = outward(c * before.value + 2 * last.prox_gain.value)
        terms = (before, last.prox_gain, data.mu, data.L)
        return times(1.0, last.prox.lipschitz, derived(inner, terms, "2u - z"))


class ADMMScheme(DouglasRachfordScheme):
    r"""
    Of ADMM, whose variable :math:`v = x + z` goes through

    .. math::

        v \mapsto v - D(v) + \operatorname{prox}_{\tau f}(2 D(v) - v),

    so that a layer's prior acts with the data fidelity of the next layer.
    """

    iterator = ADMMIteration
    norm = "l2 norm of x + z, the Douglas-Rachford variable of ADMM"
    in_state = False

    def arrange(self, layers: Sequence[Layer]) -> list[Layer]:
        """Each with the prior of the layer before it."""
        return [
            replace(layer, prior=layers[index - 1].prior)
            for index, layer in enumerate(layers)
        ]

    def constants(self, layer: Layer) -> tuple[Bound, Bound]:
        """As of DRS, and only without relaxation."""
        if layer.beta != 1:
            reason = (
                f"no rate is proved for ADMM with beta = {layer.beta:g}, only for 1"
            )
            return unproved(reason), unproved(reason)
        return self._rate(layer), layer.prox_gain

    def image_move(self, layers: Sequence[Layer], before: Bound, after: Bound) -> Bound:
        """That of :math:`x = D(v)` after the last layer, whose prior comes first."""
        return times(1.0, layers[0].prox.lipschitz, after)

    def residual_factor(self, layers: Sequence[Layer], first: Bound) -> Bound:
        r"""
        After a block, :math:`(x, z) = (D(v), v - D(v))` moves by at most
        :math:`C = \sqrt{(1 + L_N^2) / 2}` times as much as :math:`v`, because
        :math:`D = \tfrac12 (I + N)`; and :math:`v` after the first layer by no more
        than :math:`(x, z)` before it. So :math:`r_k \le (C / \rho_1) \rho^k r_0`.
        """
        L_N = reflected_constant(layers[0].prox)
        C = math.sqrt((1 + L_N.value**2) / 2)
        value = outward(max(1.0, C / first.value))
        return derived(value, (L_N, first), "residuals of (x, z) from those of x + z")


def reflected_constant(D: ProxConstants) -> Bound:
    """Lipschitz constant of 2D - I, from whatever is known of D."""
    return best(
        [
            D.reflected,
            derived(outward(2 * D.lipschitz.value + 1), (D.lipschitz,), "2 L_D + 1"),
            derived(outward(2 * D.residual.value + 1), (D.residual,), "2 eps + 1"),
        ]
    )
