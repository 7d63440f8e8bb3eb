"""Rate of the primal-dual algorithm of Condat and Vũ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ...certificates import Bound
from ...certificates.bounds import derived, outward, unproved
from ...certificates.declarations import refuse_changed
from ...certificates.rates import averaged_composition, averaged_relaxation
from ..condat_vu_iteration import CondatVuIteration
from .primal_dual_constants import (
    PrimalDualConstants,
    require_resolvent,
    smoothness,
    squared_norm,
    strong_convexity,
)
from .rate_scheme import (
    PROX_WEIGHT,
    RELAXATION,
    STEPSIZE,
    Layer,
    LayerParts,
    NotCoveredError,
    Parameter,
    RateScheme,
    best,
    relaxed,
)

DUAL_STEPSIZE = Parameter("stepsize_dual", "sigma", "dual step size")
DUAL_WEIGHT = Parameter(
    "lambda_composed", "lambda_K", "weight of the composed prior", printed=False
)

_BACKWARD = (
    "nu / (1 + nu) with the largest eigenvalue nu of [[p, s], [s, q]], p = (1/tau - mu)"
    " / (mu + mu_g), q = L_h / sigma, s^2 = L_h ||K||^2 / (mu + mu_g)"
)
_NONEXPANSIVE = "nonexpansive: mu + mu_g is 0, or the composed prior is not smooth"
_FORWARD = ", times (L - mu) / (1/tau - mu - sigma ||K||^2) - 1"


class CondatVuScheme(RateScheme):
    r"""
    Rate of :class:`~deepinv_equilibrium.optim.CondatVu`.

    **Assumptions.** :math:`f` is quadratic with
    :math:`\mu I \preceq \nabla^2 f \preceq L I` and :math:`\mu \ge 0`;
    :math:`\lambda g - \tfrac{\mu_g}{2} \|\cdot\|^2` is convex with
    :math:`\mu + \mu_g \ge 0`, so that :math:`g` may be weakly convex,
    :math:`\mu_g < 0`; the gradient of :math:`\lambda_K h` is :math:`L_h`-Lipschitz, so
    that its conjugate :math:`h^*` is :math:`1 / L_h`-strongly convex; both proximal
    operators are exact. Instead of a function, :math:`g` and :math:`h` may be monotone
    operators: those whose resolvents are firmly nonexpansive denoisers, with
    :math:`\mu_g = 0` and :math:`L_h = \infty`.

    **Norm.** Let :math:`a = 1 / \tau - \mu` and :math:`a > \sigma \|K\|^2`. Then

    .. math::

        \|(x, u)\|_P^2 = a \|x\|^2 - 2 \langle K x, u \rangle + \|u\|^2 / \sigma, \qquad
        P = \begin{pmatrix} a I & -K^\top \\ -K & \sigma^{-1} I \end{pmatrix} \succ 0,

    is the square of a norm.

    **Rate.** With :math:`\beta = 1` the iteration is Lipschitz in this norm, with the
    constant

    .. math::

        \rho = \frac{\nu}{1 + \nu} \max\Bigl(1,
        \frac{L - \mu}{a - \sigma \|K\|^2} - 1\Bigr), \qquad
        \nu = \frac{p + q}{2} + \sqrt{\Bigl(\frac{p - q}{2}\Bigr)^2
        + \frac{L_h \|K\|^2}{\mu + \mu_g}}, \quad
        p = \frac{a}{\mu + \mu_g}, \quad q = \frac{L_h}{\sigma}.

    The maximum is 1 for :math:`1 / \tau - \sigma \|K\|^2 \ge (L + \mu) / 2`. If
    :math:`\mu + \mu_g = 0` or :math:`L_h = \infty`, then :math:`\nu = \infty` and the
    first factor is 1: the iteration is nonexpansive, and no contraction is proved. A
    relaxation gives :math:`|1 - \beta| + \beta \rho`.

    **Proof.** *Strong convexity moves from* :math:`f` *to* :math:`g`. Let
    :math:`f_0 = f - \tfrac{\mu}{2} \|\cdot\|^2`,
    :math:`g_0 = \lambda g + \tfrac{\mu}{2} \|\cdot\|^2` and :math:`\tau_0 = 1 / a`,
    that is :math:`\tau = \tau_0 / (1 + \tau_0 \mu)`. The argument of the primal
    proximal operator is

    .. math::

        x - \tau \nabla f(x) - \tau K^\top u
        = (1 - \tau \mu) \bigl(x - \tau_0 \nabla f_0(x) - \tau_0 K^\top u\bigr), \qquad
        \operatorname{prox}_{\tau \lambda g}((1 - \tau \mu) v)
        = \operatorname{prox}_{\tau_0 g_0}(v),

    so the iteration is that with :math:`f_0`, :math:`g_0` and :math:`\tau_0`.

    *It is a forward-backward iteration* (Section 3 of
    :footcite:t:`condat2013primal`): :math:`w^+ = (P + M)^{-1} (P - B) w` for
    :math:`w = (x, u)`, :math:`B w = (\nabla f_0(x), 0)` and the monotone operator
    :math:`M w = (\partial g_0(x) + K^\top u, \partial h^*(u) - K x)`.

    *The forward step* :math:`I - P^{-1} B` is symmetric in the inner product of
    :math:`P`. The eigenvalues of :math:`P^{-1} B` are between 0 and
    :math:`(L - \mu) / (a - \sigma \|K\|^2)`, because
    :math:`0 \preceq \nabla^2 f_0 \preceq (L - \mu) I` and the block of
    :math:`P^{-1}` that acts on :math:`x` is :math:`(a I - \sigma K^\top K)^{-1}`. The
    maximum is therefore its Lipschitz constant.

    *The backward step.* :math:`M` is strongly monotone,
    :math:`\langle \Delta M, \Delta w \rangle \ge (\mu + \mu_g) \|\Delta x\|^2
    + L_h^{-1} \|\Delta u\|^2 \ge \nu^{-1} \|\Delta w\|_P^2`, where :math:`\nu` is the
    largest eigenvalue of :math:`S P S` with
    :math:`S = \operatorname{diag}((\mu + \mu_g)^{-1/2}, L_h^{1/2})`. For
    :math:`w_i^+ = (P + M)^{-1} P v_i` this gives
    :math:`(1 + \nu^{-1}) \|\Delta w^+\|_P^2 \le \langle \Delta w^+, P \Delta v \rangle
    \le \|\Delta w^+\|_P \|\Delta v\|_P`.
    """

    iterator = CondatVuIteration
    parameters = (STEPSIZE, DUAL_STEPSIZE, PROX_WEIGHT, DUAL_WEIGHT, RELAXATION)
    norm = (
        "norm of (x, u) whose square is (1/tau - mu) ||x||^2 - 2 <K x, u> + "
        "||u||^2 / sigma"
    )
    in_state = False

    def read_prior(
        self,
        parts: LayerParts,
        parameters: Mapping[str, float],
        img_size: Sequence[int],
    ) -> PrimalDualConstants:
        r"""
        Return the constants of both priors and of the linear map.

        :param LayerParts parts: the layer.
        :param Mapping parameters: the numbers of the layer.
        :param Sequence img_size: :math:`(C, H, W)` of the images.
        :raises NotCoveredError: if a proximal operator is not known to be firmly
            nonexpansive, or ``K_adjoint`` is not the transpose of ``K``.
        :raises UncertifiableModuleError: if a prior has hooks or replaced methods.
        """
        h, K = parts.parameters["composed_prior"], parts.parameters["K"]
        refuse_changed(h)
        tau, weight = parameters["stepsize"], parameters["lambda"]
        require_resolvent(parts.prior, tau * weight, img_size, weakly_convex=True)
        dual_weight = parameters["lambda_composed"]
        require_resolvent(h, dual_weight / (parameters["stepsize_dual"] or 1), img_size)
        return PrimalDualConstants(
            strong_convexity(parts.prior, weight, img_size),
            smoothness(h, dual_weight, img_size),
            squared_norm(K, parts.parameters["K_adjoint"], img_size),
            K,
        )

    def arrange(self, layers: Sequence[Layer]) -> list[Layer]:
        r"""
        Return the layers.

        :raises NotCoveredError: if the norms of the layers differ, i.e. if
            :math:`\tau`, :math:`\sigma`, :math:`K` or :math:`\mu` do.
        """
        norms = [
            (
                layer["stepsize"],
                layer["stepsize_dual"],
                layer.data.mu.value,
                _constants(layer).K,
            )
            for layer in layers
        ]
        if any(norm != norms[0] for norm in norms):
            raise NotCoveredError(
                "layers with different step sizes, K or mu contract in different norms"
            )
        return list(layers)

    def constants(self, layer: Layer) -> tuple[Bound, Bound]:
        r"""
        Return the rate, and the constant in the data,
        :math:`\beta \sigma_y^{-2} \|A\| \tfrac{\nu}{1 + \nu} / \sqrt{a - \sigma
        \|K\|^2}` for noise of level :math:`\sigma_y` in the data fidelity.

        The data enter the forward step by :math:`P^{-1} (A^\top y / \sigma_y^2, 0)`.
        """
        data, known = layer.data, _constants(layer)
        a, slack = _metric(layer)
        if slack <= 0:
            reason = unproved(
                "the step sizes must satisfy 1/tau - mu > sigma ||K||^2; decrease them"
            )
            return reason, reason
        if data.mu.value + known.convexity.value < 0:
            reason = unproved(
                f"the prior is weakly convex, mu_g = {known.convexity.value:g}, and "
                f"mu + mu_g is not proved to be nonnegative, mu = {data.mu.value:g}"
            )
            return reason, reason
        resolvent = _resolvent_rate(
            a,
            data.mu.value + known.convexity.value,
            known.smoothness.value,
            known.squared_norm.value,
            layer["stepsize_dual"],
        )
        spread = outward(max(data.L.value - data.mu.value, 0.0)) / slack
        forward = max(1.0, outward(spread) - 1)
        value = resolvent if forward == 1 else outward(resolvent * forward)
        source = _BACKWARD if resolvent < 1 else _NONEXPANSIVE
        source += _FORWARD if forward > 1 else ""
        used = [data.mu, data.L, known.convexity, known.squared_norm]
        if not known.smoothness.is_vacuous:
            used.append(known.smoothness)
        rate = derived(value, used, source)
        gain = math.sqrt(data.squared_norm.value / slack) * data.precision
        moved = derived(
            outward(layer["beta"] * gain * resolvent),
            [*used, data.squared_norm],
            "gradient step in the data",
        )
        return relaxed(rate, layer["beta"]), moved

    def averaged(self, layer: Layer) -> Bound:
        r"""
        Return the averagedness constant in the norm of the rate.

        The forward step is :math:`\tfrac{L - \mu}{2 (a - \sigma \|K\|^2)}`-averaged,
        because :math:`P^{-1} B` is symmetric in that norm with nonnegative eigenvalues,
        and the backward step is firmly nonexpansive.
        """
        data, known = layer.data, _constants(layer)
        _, slack = _metric(layer)
        if slack <= 0 or data.mu.value + known.convexity.value < 0:
            return unproved("the step is not proved to be averaged")
        forward = outward(max(data.L.value - data.mu.value, 0.0)) / (2 * slack)
        value = averaged_composition(outward(forward), 0.5)
        value = averaged_relaxation(value, layer["beta"])
        used = (data.mu, data.L, known.convexity, known.squared_norm)
        return derived(value, used, "a forward and a backward step")

    def image_move(self, layers: Sequence[Layer], before: Bound, after: Bound) -> Bound:
        r"""
        Return how far :math:`x` moves: by :math:`(a - \sigma \|K\|^2)^{-1/2}` times the
        motion in the norm of the rate, and by no more than
        :math:`\|A\| / (\sigma_y^2 (\mu + \mu_g))` if all layers solve one problem,
        whose objective is strongly convex.
        """
        last = layers[-1]
        data, known = last.data, _constants(last)
        _, slack = _metric(last)
        bounds = [
            derived(
                outward(after.value / math.sqrt(slack)),
                (after, data.mu, known.squared_norm),
                after.source,
            )
        ]
        convexity = data.mu.value + known.convexity.value
        if all(layer == last for layer in layers) and convexity > 0:
            value = outward(
                math.sqrt(data.squared_norm.value) * data.precision / convexity
            )
            used = (data.squared_norm, data.mu, known.convexity)
            bounds.append(derived(value, used, "||A|| / (sigma^2 (mu + mu_g))"))
        return best(bounds)

    def residual_factor(self, layers: Sequence[Layer], first: Bound) -> Bound:
        r"""
        Return the square root of the condition number of :math:`P`, whose extreme
        eigenvalues are those of :math:`\bigl(\begin{smallmatrix} a & \|K\| \\ \|K\| &
        1 / \sigma \end{smallmatrix}\bigr)`.
        """
        layer = layers[0]
        known = _constants(layer)
        a, slack = _metric(layer)
        if slack <= 0:
            return unproved("the step sizes are too large")
        largest = _largest_eigenvalue(
            a, 1 / layer["stepsize_dual"], known.squared_norm.value
        )
        # The product of the eigenvalues is slack / sigma.
        smallest = slack / layer["stepsize_dual"] / largest
        value = outward(math.sqrt(largest / smallest))
        used = (layer.data.mu, known.squared_norm)
        return derived(value, used, "residuals of (x, u) from those in the norm")


def _constants(layer: Layer) -> PrimalDualConstants:
    assert isinstance(layer.prior, PrimalDualConstants)
    return layer.prior


def _metric(layer: Layer) -> tuple[float, float]:
    r"""Return :math:`a` rounded upwards and :math:`a - \sigma \|K\|^2` rounded
    downwards, which is not positive where the step sizes are 0 or too large."""
    tau, sigma = layer["stepsize"], layer["stepsize_dual"]
    if tau == 0 or sigma == 0:
        return math.inf, 0.0
    coupling = sigma * _constants(layer).squared_norm.value
    a = 1 / tau - layer.data.mu.value
    rounding = 1e-12 * (1 / tau + coupling)
    return a + rounding, a - coupling - rounding


def _resolvent_rate(
    a: float, convexity: float, smoothness: float, squared_norm: float, sigma: float
) -> float:
    r""":math:`\nu / (1 + \nu)`."""
    if convexity == 0 or smoothness == math.inf:
        return 1.0
    nu = _largest_eigenvalue(
        a / convexity,
        smoothness / sigma,
        smoothness * squared_norm / convexity,
    )
    return min(outward(nu / (1 + nu)), 1.0)


def _largest_eigenvalue(p: float, q: float, squared: float) -> float:
    """Return the largest eigenvalue of the symmetric matrix with the diagonal p, q and
    the given square of its other entry, rounded upwards."""
    return outward((p + q) / 2 + math.sqrt(((p - q) / 2) ** 2 + squared))
