"""Constants of two priors and a linear map, for the rate of a primal-dual algorithm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deepinv.optim import Prior
from deepinv.physics import LinearPhysics

from ...certificates import Bound, Term, UncertifiablePhysicsError, spectrum
from ...certificates.bounds import derived, outward, unproved
from ..condat_vu_iteration import identity
from ..priors.nonnegativity import NonNegativeTikhonov
from ..total_variation.image_differences import (
    differences,
    differences_adjoint,
    differences_norm_squared,
)
from .prior_constants import GradientConstants, ProxConstants, declares_exact_prox
from .rate_scheme import NotCoveredError


@dataclass(frozen=True)
class PrimalDualConstants:
    r"""
    Constants of the two priors and of the linear map.

    :param Bound convexity: :math:`\mu_g` such that :math:`\lambda g - \tfrac{\mu_g}{2}
        \|\cdot\|^2` is convex; negative for a weakly convex :math:`g`.
    :param Bound smoothness: :math:`L_h` such that the gradient of :math:`\lambda_K h`
        is :math:`L_h`-Lipschitz; infinite where :math:`h` is not smooth.
    :param Bound squared_norm: :math:`\|K\|^2`.
    :param Callable K: :math:`K`, which the norm of the rate depends on.
    """

    convexity: Bound
    smoothness: Bound
    squared_norm: Bound
    K: Callable[..., Any]

    @property
    def terms(self) -> tuple[Term, ...]:
        """The lines of the report."""
        return (
            Term("strong convexity of the prior", "mu_g", self.convexity),
            Term("smoothness of the composed prior", "L_h", self.smoothness),
            Term("squared norm of the linear map", "||K||^2", self.squared_norm),
        )


def require_resolvent(
    prior: Prior,
    weight: float,
    img_size: Sequence[int],
    *,
    weakly_convex: bool = False,
) -> None:
    r"""
    Refuse a prior whose proximal operator is not known to be firmly nonexpansive, i.e.
    the resolvent of a monotone operator.

    :param deepinv.optim.Prior prior: the prior.
    :param float weight: its weight.
    :param Sequence img_size: :math:`(C, H, W)` of the images.
    :param bool weakly_convex: whether to accept the exact proximal operator of a weakly
        convex function, too. Default: ``False``.
    :raises NotCoveredError: if it is not known.
    """
    known = ProxConstants.of(prior, weight, img_size)
    # strong_convexity reads the curvature of a prior, and not that of a denoiser.
    is_exact = weakly_convex and declares_exact_prox(prior)
    if is_exact and known.convexity is not None and known.convexity.is_certified:
        return
    # The constant of an exact formula is rounded upwards.
    if not (known.reflected.is_certified and known.reflected.value <= 1 + 1e-11):
        lipschitz = known.lipschitz
        raise NotCoveredError(
            f"the proximal operator of {type(prior).__name__} is not known to be "
            "firmly nonexpansive"
            + (f" ({lipschitz.source})" if lipschitz.is_vacuous else "")
        )


def strong_convexity(prior: Prior, weight: float, img_size: Sequence[int]) -> Bound:
    """Return a lower bound of the curvature of a weighted prior, which is negative for
    a weakly convex one."""
    name = type(prior).__name__
    if type(prior) is NonNegativeTikhonov:
        unit = Bound(1.0, source=f"{name} is strongly convex", is_lower=True)
    else:
        curvature = GradientConstants.of(prior, img_size).curvature
        if curvature is None:
            source = f"the proximal operator of {name} is firmly nonexpansive"
            return Bound(0.0, source=source, is_lower=True)
        unit = curvature.lower
    value = outward(weight * unit.value, is_lower=True)
    return derived(value, (unit,), f"lambda times: {unit.source}", is_lower=True)


def smoothness(prior: Prior, weight: float, img_size: Sequence[int]) -> Bound:
    """Return a Lipschitz constant of the gradient of a weighted prior."""
    curvature = GradientConstants.of(prior, img_size).curvature
    if curvature is None:
        return unproved(f"{type(prior).__name__} is not known to be smooth")
    unit = curvature.upper
    if weight == 0 or unit.is_vacuous:
        return unit if weight else Bound(0.0, source="lambda_K is 0")
    value = outward(weight * unit.value)
    return derived(value, (unit,), f"lambda_K times: {unit.source}")


def squared_norm(
    K: Callable[..., Any], K_adjoint: Callable[..., Any], img_size: Sequence[int]
) -> Bound:
    r"""
    Return an upper bound of :math:`\|K\|^2`.

    It is certified for the identity, for :func:`differences
    <deepinv_equilibrium.optim.total_variation.differences>`, and for ``physics.A`` of a
    physics with a certified spectrum; else it is an estimate by the Lanczos method.

    :param Callable K: the linear map.
    :param Callable K_adjoint: its transpose.
    :param Sequence img_size: :math:`(C, H, W)` of the images.
    :raises NotCoveredError: if ``K_adjoint`` is not the transpose of ``K``.
    """
    if (K, K_adjoint) == (identity, identity):
        return Bound(1.0, source="K is the identity")
    if (K, K_adjoint) == (differences, differences_adjoint):
        value = differences_norm_squared(img_size[1:])
        return Bound(value, source="differences of neighbours")
    physics = getattr(K, "__self__", None)
    if not (
        isinstance(physics, LinearPhysics)
        and (K, K_adjoint) == (physics.A, physics.A_adjoint)
    ):
        physics = LinearPhysics(
            A=lambda x, **_: K(x), A_adjoint=lambda u, **_: K_adjoint(u)
        )
    try:
        return spectrum(physics, img_size).upper
    except UncertifiablePhysicsError as error:
        raise NotCoveredError(f"K with K_adjoint: {error}") from None
