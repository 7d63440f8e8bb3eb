"""Rates of Douglas-Rachford splitting and of ADMM."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from deepinv.optim.optim_iterators import ADMMIteration, DRSIteration

from ...certificates import Bound
from ...certificates.bounds import derived, outward, unproved
from ...certificates.rates import douglas_rachford_rates as dr
from ...certificates.rates.averaged_operators import averaged_relaxation
from .prior_constants import ProxConstants
from .rate_scheme import Layer, RateScheme, best, times


class DouglasRachfordScheme(RateScheme):
    """Rate of DRS in its variable z, by
    ``deepinv_equilibrium.certificates.rates.douglas_rachford_rates``."""

    iterator = DRSIteration
    norm = "l2 norm of the Douglas-Rachford variable z"
    solves_prox = True

    def constants(self, layer: Layer) -> tuple[Bound, Bound]:
        r"""
        Return the constants of :math:`z \mapsto z + \beta (D(2 u - z) - u)` with
        :math:`u = \operatorname{prox}_{\tau f}(z)`.

        With :math:`N = 2 D - I` the increment is :math:`\tfrac12 N(2 u - z) - \tfrac12
        z`, so that the data move it by at most :math:`L_N` times as much as they move
        :math:`u`.
        """
        sensitivity = times(
            layer["beta"], reflected_constant(layer.prox), layer.prox_gain
        )
        return self._rate(layer), sensitivity

    def _rate(self, layer: Layer) -> Bound:
        D, beta, ends = layer.prox, layer["beta"], (layer.data.mu, layer.data.L)
        numbers = *layer.prox_ends, layer["stepsize"]
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

    def averaged(self, layer: Layer) -> Bound:
        r"""
        Return :math:`\beta / 2` if :math:`N C` is nonexpansive.

        Both reflections are nonexpansive for a convex data fidelity, whose computed
        proximal operator has eigenvalues in [0, 1] however they are rounded, and a
        firmly nonexpansive denoiser.
        """
        D, data = layer.prox, layer.data
        c = dr.reflection(*layer.prox_ends, layer["stepsize"])
        known = [(D.averagedness, data.mu.value >= 0 and D.averagedness.value <= 0.5)]
        product = outward(c * D.reflected.value)
        known.append((D.reflected, product <= 1))
        for bound, is_nonexpansive in known:
            if is_nonexpansive and bound.is_certified:
                value = averaged_relaxation(0.5, layer["beta"])
                return derived(value, (data.mu, data.L, bound), "beta / 2")
        return unproved("the composed reflections are not proved to be nonexpansive")

    def image_move(self, layers: Sequence[Layer], before: Bound, after: Bound) -> Bound:
        r"""Return how far :math:`x = D(2 \operatorname{prox}_{\tau f}(z) - z)` moves,
        where :math:`z` is the state before the last layer."""
        last = layers[-1]
        data = last.data
        c = dr.reflection(*last.prox_ends, last["stepsize"])
        inner = outward(c * before.value + 2 * last.prox_gain.value)
        terms = (before, last.prox_gain, data.mu, data.L)
        return times(1.0, last.prox.lipschitz, derived(inner, terms, "2u - z"))


class ADMMScheme(DouglasRachfordScheme):
    r"""
    Rate of ADMM in :math:`v = x + z`. An iteration is

    .. math::

        v \mapsto v - D(v) + \operatorname{prox}_{\tau f}(2 D(v) - v),

    which pairs the prior of one layer with the data fidelity of the next layer.
    """

    iterator = ADMMIteration
    norm = "l2 norm of x + z, the Douglas-Rachford variable of ADMM"
    in_state = False

    def arrange(self, layers: Sequence[Layer]) -> list[Layer]:
        """Give each layer the prior of the layer before it."""
        return [
            replace(layer, prior=layers[index - 1].prior)
            for index, layer in enumerate(layers)
        ]

    def constants(self, layer: Layer) -> tuple[Bound, Bound]:
        r"""Return the constants for :math:`\beta = 1`, for which ADMM has the rate of
        DRS; no rate is proved for another :math:`\beta`."""
        beta = layer["beta"]
        if beta != 1:
            reason = f"no rate is proved for ADMM with beta = {beta:g}, only for 1"
            return unproved(reason), unproved(reason)
        return self._rate(layer), layer.prox_gain

    def averaged(self, layer: Layer) -> Bound:
        r"""Return the constant for :math:`\beta = 1`, that of DRS."""
        if layer["beta"] != 1:
            return unproved("no convergence is proved for another beta than 1")
        return super().averaged(layer)

    def image_move(self, layers: Sequence[Layer], before: Bound, after: Bound) -> Bound:
        """Return how far :math:`x = D(v)` moves, where :math:`D` is the prior of the
        last layer, which :meth:`arrange` has given to the first one."""
        return times(1.0, layers[0].prox.lipschitz, after)

    def residual_factor(self, layers: Sequence[Layer], first: Bound) -> Bound:
        r"""
        Return :math:`C / \rho_1` with :math:`C = \sqrt{(1 + L_N^2) / 2}`, and at least
        1: the residuals of :math:`(x, z)` satisfy
        :math:`r_k \le (C / \rho_1) \rho^k r_0`.

        After a block, :math:`(x, z) = (D(v), v - D(v))` moves by at most :math:`C`
        times as much as :math:`v`, because :math:`D = \tfrac12 (I + N)`. After the
        first layer, :math:`v` moves by no more than :math:`(x, z)` before it.
        """
        L_N = reflected_constant(layers[0].prox)
        C = math.sqrt((1 + L_N.value**2) / 2)
        value = outward(max(1.0, C / first.value))
        return derived(value, (L_N, first), "residuals of (x, z) from those of x + z")


def reflected_constant(D: ProxConstants) -> Bound:
    """Return the smallest proved Lipschitz constant of 2D - I."""
    return best(
        [
            D.reflected,
            derived(outward(2 * D.lipschitz.value + 1), (D.lipschitz,), "2 L_D + 1"),
            derived(outward(2 * D.residual.value + 1), (D.residual,), "2 eps + 1"),
        ]
    )
