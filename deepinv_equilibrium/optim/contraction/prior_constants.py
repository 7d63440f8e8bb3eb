"""Constants of priors and denoisers, from which rates are computed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deepinv.optim import RED, PnP, Prior, Tikhonov, TVPrior, ZeroPrior
from deepinv.optim.prior import L1Prior

from ...certificates import (
    Bound,
    Interval,
    Kind,
    Term,
    UncertifiableModuleError,
    lipschitz,
)
from ...certificates.bounds import derived, outward, unproved
from ...certificates.declarations import declares, undeclared
from ...certificates.lipschitz_bounds.lipschitz_constant import refuse_by_trial
from ...certificates.lipschitz_bounds.module_state import refuse_state
from ...certificates.lipschitz_bounds.wrapper_rules import wrapped_denoiser
from ...certificates.rates.proximal_constants import (
    prox_lipschitz,
    prox_reflected,
    prox_residual,
)
from ..priors.nonnegativity import NonNegativeTikhonov, NonNegativity
from ..total_variation.tv_prior import WeightedTVPrior

_KNOWN = (
    "known are those of Tikhonov, L1Prior, ZeroPrior, NonNegativity, "
    "NonNegativeTikhonov, RidgeRegulariser, SmoothedTVPrior and PnP with a denoiser "
    "that lipschitz certifies (ConvexPotentialDenoiser, RidgeProxDenoiser), and in GD "
    "the gradients of Tikhonov, ZeroPrior, RidgeRegulariser, SmoothedTVPrior and RED "
    "with such a denoiser; a prior of your own declares gradient_bounds(img_size)"
)
_NOT_DECLARED = unproved("not declared")


@dataclass(frozen=True)
class ProxConstants:
    r"""
    Lipschitz constants of a denoiser or proximal operator :math:`D`. An infinite bound
    says that the constant is unknown.

    :param Bound lipschitz: :math:`L_D`, the constant of :math:`D`.
    :param Bound reflected: the constant of :math:`2 D - I`; 1 for a firmly nonexpansive
        :math:`D`.
    :param Bound residual: the constant of :math:`D - I`.
    :param Bound averaged: a declared constant :math:`\alpha` such that :math:`D` is
        :math:`\alpha`-averaged. Default: none is declared.
    :param Bound convexity: lower bound of the curvature of :math:`\gamma \lambda g`,
        negative for a weakly convex :math:`g`, if :math:`D` is its exact proximal
        operator, else ``None``.
    """

    lipschitz: Bound
    reflected: Bound
    residual: Bound
    averaged: Bound = _NOT_DECLARED
    convexity: Bound | None = None

    @property
    def averagedness(self) -> Bound:
        r"""The smallest proved :math:`\alpha` such that :math:`D` is
        :math:`\alpha`-averaged: 1/2 for a firmly nonexpansive :math:`D`, 1 for a
        nonexpansive one."""
        known = [self.averaged]
        if self.reflected.value <= 1:
            known.append(derived(0.5, (self.reflected,), self.reflected.source))
        if self.lipschitz.value <= 1:
            known.append(derived(1.0, (self.lipschitz,), self.lipschitz.source))
        return min(known, key=lambda bound: (not bound.is_certified, bound.value))

    @staticmethod
    def of(prior: Prior, weight: float, img_size: Sequence[int]) -> ProxConstants:
        r"""
        Return the constants of :math:`\operatorname{prox}_{\gamma \lambda g}`.

        :param deepinv.optim.Prior prior: :math:`g`.
        :param float weight: :math:`\gamma \lambda`.
        :param Sequence img_size: :math:`(C, H, W)` of the images.
        :return: the constants.
        """
        if type(prior).prox is PnP.prox:
            return ProxConstants.of_denoiser(prior.denoiser, img_size)
        if declares(prior, "lipschitz_bound", "prox"):
            return ProxConstants.of_denoiser(prior, img_size, "prox")
        if declares_exact_prox(prior):
            return ProxConstants.of_curvature(prior, weight, img_size)
        name = type(prior).__name__
        exact = {ZeroPrior: 0.0, Tikhonov: weight}.get(type(prior))
        if exact is not None:
            source = f"proximal operator of {name}"
            shrinkage = 1 / (1 + exact)
            return ProxConstants(
                Bound(outward(shrinkage), source=source),
                Bound(outward(abs(2 * shrinkage - 1) + 1e-15), source=source),
                Bound(outward(exact * shrinkage), source=source),
                averaged=Bound(0.5, source=source),
                convexity=_convexity(exact, source),
            )
        firm = {L1Prior: "soft thresholding", NonNegativity: "a projection"}
        if type(prior) in firm:
            source = f"{firm[type(prior)]} is firmly nonexpansive"
            one = Bound(1.0, source=source)
            convex = _convexity(0.0, "a convex function")
            return ProxConstants(one, one, one, convexity=convex)
        if type(prior) is NonNegativeTikhonov:
            source = "projection, divided by 1 + tau lambda"
            one = Bound(1.0, source="a projection that is shrunk")
            shrunk = Bound(outward(1 / (1 + weight)), source=source)
            convexity = _convexity(weight, "a strongly convex function")
            return ProxConstants(shrunk, one, one, convexity=convexity)
        why = _unknown(prior)
        if type(prior).prox in (TVPrior.prox, WeightedTVPrior.prox):
            why = "an iteration stopped early, which is not proved nonexpansive"
        reason = f"proximal operator of {name}: {why}; {_KNOWN}"
        return ProxConstants(unproved(reason), _NOT_DECLARED, _NOT_DECLARED)

    @staticmethod
    def of_curvature(
        prior: Any, weight: float, img_size: Sequence[int]
    ) -> ProxConstants:
        r"""
        Return the constants of the exact proximal operator of a prior with
        :math:`m I \preceq \nabla^2 g \preceq L_R I`, where :math:`m = -\rho` is
        negative for a weakly convex function. The Jacobian is symmetric, between
        :math:`1 / (1 + \gamma \lambda L_R)` and :math:`1 / (1 + \gamma \lambda m)`.

        :param deepinv.optim.Prior prior: :math:`g`, which declares
            ``gradient_bounds(img_size)``. The constants are estimated if it has a
            user-defined tolerance ``rtol`` for the solve of its proximal operator.
        :param float weight: :math:`\gamma \lambda`. The proximal operator is a function
            for :math:`\gamma \lambda \rho < 1`.
        :param Sequence img_size: :math:`(C, H, W)` of the images.
        :return: the constants.
        """
        ends = prior.gradient_bounds(tuple(img_size))
        m, L, used = ends.lower.value, ends.upper.value, [ends.lower, ends.upper]
        name, rtol = type(prior).__name__, getattr(prior, "rtol", None)
        source = f"exact proximal operator of {name}"
        if rtol is not None:
            source += f"; the computed one only has rtol = {rtol:g}"
            used.append(Bound(0.0, Kind.ESTIMATED, source))
        constant = prox_lipschitz(m, weight)
        if constant == math.inf:
            reason = (
                f"the proximal operator of {name} is a function only if gamma lambda "
                f"rho < 1, and gamma lambda = {weight:g}, rho = {-m:g}: decrease the "
                "step size or lambda_reg"
            )
            return ProxConstants(unproved(reason), _NOT_DECLARED, _NOT_DECLARED)
        if m:
            source = f"1 / (1 + gamma lambda m), m = {m:g}: {source}"
        convexity = outward(weight * m, is_lower=True)
        return ProxConstants(
            derived(constant, used, source),
            derived(prox_reflected(m, L, weight), used, source),
            derived(prox_residual(m, L, weight), used, source),
            convexity=derived(convexity, used, ends.lower.source, is_lower=True),
        )

    @staticmethod
    def of_denoiser(
        denoiser: Any, img_size: Sequence[int], method: str = "forward"
    ) -> ProxConstants:
        r"""
        Return the constants of a denoiser.

        They come from :func:`deepinv_equilibrium.lipschitz` and from the denoiser's own
        declarations: ``is_firmly_nonexpansive`` (bool),
        ``averagedness_bound(img_size)`` (a Bound of a constant :math:`\alpha` for which
        :math:`D` is :math:`\alpha`-averaged), ``residual_bound(img_size)`` (a Bound of
        the Lipschitz constant of :math:`D - I`) and ``convexity_bound(img_size)`` (a
        lower Bound of the curvature of the function whose exact proximal operator is
        :math:`D`). Wrappers that carry over all these
        constants are looked through. Nothing is known of a denoiser that is random,
        couples the images of a batch, or overwrites its image.

        :param torch.nn.Module denoiser: :math:`D`.
        :param Sequence img_size: :math:`(C, H, W)` of the images.
        :param str method: the method that computes :math:`D`. A subclass that overrides
            this method, or another method of the declaring class, does not inherit the
            declarations.
        :return: the constants.
        """
        firm, size = "is_firmly_nonexpansive", tuple(img_size)
        unknown = _NOT_DECLARED
        try:
            constant = lipschitz(denoiser, size)
            denoiser = wrapped_denoiser(denoiser, size)
        except (UncertifiableModuleError, TypeError) as error:
            constant = unproved(str(error))
            names = (firm, "residual_bound", "averagedness_bound")
            if any(declares(denoiser, name, method) for name in names):
                try:
                    refuse_state(denoiser)
                    refuse_by_trial(denoiser, size)
                except UncertifiableModuleError as fault:
                    return ProxConstants(unproved(str(fault)), unknown, unknown)
        reflected = residual = unknown
        if declares(denoiser, firm, method) and getattr(denoiser, firm) is True:
            source = f"{type(denoiser).__name__} is firmly nonexpansive"
            reflected = Bound(1.0, source=source)
            if constant.value > 1:
                constant = reflected
        if declares(denoiser, "residual_bound", method):
            try:
                residual = denoiser.residual_bound(img_size)
            except UncertifiableModuleError as error:
                residual = unproved(str(error))
            if constant.is_vacuous and not residual.is_vacuous:
                value = outward(1 + residual.value)
                constant = derived(value, (residual,), "1 + eps")
        averaged, convexity = unknown, None
        if declares(denoiser, "averagedness_bound", method):
            averaged = denoiser.averagedness_bound(size)
        if declares(denoiser, "convexity_bound", method):
            with contextlib.suppress(UncertifiableModuleError):
                convexity = denoiser.convexity_bound(size)
        return ProxConstants(constant, reflected, residual, averaged, convexity)

    @property
    def terms(self) -> tuple[Term, ...]:
        """The lines of the report: the Lipschitz constant, and what else is known."""
        terms = [Term("Lipschitz constant of the denoiser", "L_D", self.lipschitz)]
        if not self.reflected.is_vacuous:
            name = "Lipschitz constant of the reflected denoiser 2D - I"
            terms.append(Term(name, "L_N", self.reflected))
        if not self.residual.is_vacuous:
            name = "Lipschitz constant of the denoiser's residual D - I"
            terms.append(Term(name, "eps", self.residual))
        return tuple(terms)


def declares_exact_prox(prior: Any) -> bool:
    """Return whether a prior declares its curvature and has its own proximal operator.
    The one that deepinv's priors inherit is a gradient descent that stops early."""
    has_prox = type(prior).prox is not Prior.prox
    return has_prox and declares(prior, "gradient_bounds", "grad", "fn", "prox")


def _unknown(prior: Prior) -> str:
    """Say why nothing is known of a prior."""
    why = undeclared(prior, "gradient_bounds")
    return "nothing is known" if why == "not declared" else why


def _convexity(value: float, source: str) -> Bound:
    return Bound(outward(value, is_lower=True), source=source, is_lower=True)


@dataclass(frozen=True)
class GradientConstants:
    r"""
    Constants of the gradient :math:`R` of a prior: either :math:`R` is the gradient of
    a function, which need not be convex, with
    :math:`m I \preceq \partial R \preceq L_R I`, or :math:`R = I - D`.

    :param Interval curvature: :math:`[m, L_R]` in the first case, else ``None``.
    :param ProxConstants denoiser: constants of :math:`D` in the second case, else
        ``None``.
    :param str unknown: the reason, if both are ``None``.
    """

    curvature: Interval | None = None
    denoiser: ProxConstants | None = None
    unknown: str = ""

    @staticmethod
    def of(prior: Prior, img_size: Sequence[int]) -> GradientConstants:
        r"""
        Return the constants of the gradient of a prior.

        :param deepinv.optim.Prior prior: RED, Tikhonov, the zero prior, or a prior that
            declares ``gradient_bounds(img_size)``, an Interval that holds for every
            ``g_param``.
        :param Sequence img_size: :math:`(C, H, W)` of the images.
        :return: the constants.
        """
        name = type(prior).__name__
        if declares(prior, "gradient_bounds", "grad", "fn"):
            return GradientConstants(curvature=prior.gradient_bounds(img_size))
        if type(prior).grad is RED.grad:
            known = ProxConstants.of_denoiser(prior.denoiser, img_size)
            return GradientConstants(denoiser=known)
        if type(prior) in (Tikhonov, ZeroPrior):
            value = 1.0 if type(prior) is Tikhonov else 0.0
            source = f"gradient of {name}"
            ends = Bound(value, source=source, is_lower=True), Bound(
                value, source=source
            )
            return GradientConstants(curvature=Interval(*ends))
        why = _unknown(prior)
        return GradientConstants(unknown=f"gradient of {name}: {why}; {_KNOWN}")

    @property
    def terms(self) -> tuple[Term, ...]:
        """The lines of the report: what is known, or why nothing is."""
        if self.denoiser is not None:
            return self.denoiser.terms
        if self.curvature is None:
            return (Term("gradient of the prior", "L_R", unproved(self.unknown)),)
        return (
            Term("smallest curvature of the prior", "m", self.curvature.lower),
            Term("largest curvature of the prior", "L_R", self.curvature.upper),
        )
