r"""
Intervals of step sizes in which an algorithm is proved to contract, converge or
decrease an energy.

:math:`\mu I \preceq \nabla^2 f \preceq L I` for the data fidelity,
:math:`m I \preceq \nabla^2 g \preceq L_R I` for the prior, :math:`\lambda` is its
weight, and :math:`\rho = \max(-m, 0)`. Each rule has a default step size :math:`\tau_0`
and the upper end :math:`\tau_1` of an interval :math:`(0, \tau_1)`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from deepinv.optim import PnP
from deepinv.physics import Physics
from torch import Tensor

from ...certificates import Bound, UncertifiableModuleError
from ...certificates.declarations import declares
from ...certificates.lipschitz_bounds.wrapper_rules import wrapped_denoiser
from .data_constants import DataConstants
from .prior_constants import GradientConstants, declares_exact_prox


class NoStepSizeError(ValueError):
    """No interval of step sizes is proved for an algorithm and its parts."""


@dataclass(frozen=True)
class Curvatures:
    r"""
    Curvatures of the data fidelity and of the prior of a layer, without the weight.

    :param float mu: :math:`\mu`, 0 where it is not certified.
    :param float L: :math:`L`, with a margin where it is estimated.
    :param float m: :math:`m`; 0 for a prior that is not known to be weakly convex.
    :param float m_prox: curvature of :math:`\tau \lambda g`, if the exact proximal
        operator of this function is a denoiser, which does not depend on :math:`\tau`;
        0 if it is not known to be negative.
    :param float L_R: :math:`L_R`; for RED with an :math:`\alpha`-averaged denoiser
        :math:`2 \alpha`. Only rules with a gradient step on the prior read it.
    """

    mu: float
    L: float
    m: float = 0.0
    L_R: float = 0.0
    m_prox: float = 0.0


# An estimated upper end of a spectrum, such as a Lanczos bound, holds with a
# probability only. What is proved of a step size that relies on it is estimated, too.
_MARGIN = 1.05
_WIDE = 100.0


class StepSizeRule:
    """The automatic step size of an algorithm. A subclass implements
    :meth:`interval`."""

    gradient_of_prior: ClassVar[bool] = False
    """Whether an iteration takes a gradient step on the prior."""

    def reads_prior(self, prior: Any) -> bool:
        """Return whether the curvatures depend on the prior."""
        return (
            self.gradient_of_prior
            or declares_exact_prox(prior)
            or type(prior).prox is PnP.prox
        )

    def curvatures(
        self, data_fidelity: Any, prior: Any, physics: Physics, img_size: Sequence[int]
    ) -> Curvatures:
        r"""
        Return the curvatures of a layer.

        :param deepinv.optim.DataFidelity data_fidelity: :math:`f`.
        :param deepinv.optim.Prior prior: :math:`g`.
        :param deepinv.physics.Physics physics: the physics.
        :param Sequence img_size: :math:`(C, H, W)` of the images.
        :return: the curvatures.
        :raises NoStepSizeError: if the curvature of the data fidelity, or of a prior
            whose gradient is taken, has no bound.
        """
        data = DataConstants.of(data_fidelity, physics, img_size)
        L = _upper(data.L)
        if not 0 < L < math.inf:
            why = data.L.source if data.L.is_vacuous else "the operator is 0"
            raise NoStepSizeError(_needs_number(why))
        mu = data.mu.value if data.mu.is_certified else 0.0
        if not self.reads_prior(prior):
            return Curvatures(mu, L)
        if not self.gradient_of_prior and type(prior).prox is PnP.prox:
            m_prox = _curvature_of_denoiser(prior.denoiser, img_size)
            return Curvatures(mu, L, m_prox=m_prox)
        if not self.gradient_of_prior:
            ends = prior.gradient_bounds(tuple(img_size))
            return Curvatures(mu, L, ends.lower.value, _upper(ends.upper))
        known = GradientConstants.of(prior, img_size)
        if known.curvature is not None and not known.curvature.upper.is_vacuous:
            ends = known.curvature
            return Curvatures(mu, L, ends.lower.value, _upper(ends.upper))
        if known.denoiser is None:
            why = known.unknown or "the gradient of the prior is not Lipschitz"
            raise NoStepSizeError(_needs_number(why))
        alpha = known.denoiser.averagedness
        if alpha.value > 1:
            why = "the denoiser is not proved to be nonexpansive"
            raise NoStepSizeError(_needs_number(why))
        return Curvatures(mu, L, 0.0, 2 * alpha.value)

    def interval(self, known: Curvatures, weight: Tensor) -> tuple[Tensor, Tensor]:
        r"""
        Return the default step size and the upper end of the interval.

        :param Curvatures known: the curvatures.
        :param torch.Tensor weight: :math:`\lambda`, a number.
        :return: (tuple) :math:`\tau_0` and :math:`\tau_1`.
        :raises NoStepSizeError: if no step size is proved.
        """
        raise NotImplementedError


class GradientDescentSteps(StepSizeRule):
    r"""
    GD: :math:`\tau_1 = 2 / (L + \lambda L_R)`. With
    :math:`\mu + \lambda m > 0` the default is the step size of the best rate,
    :math:`2 / (\mu + \lambda m + L + \lambda L_R)`, otherwise
    :math:`1 / (L + \lambda L_R)`.
    """

    gradient_of_prior = True

    def interval(self, known: Curvatures, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the default step size and the upper end."""
        smallest = known.mu + weight * known.m
        largest = known.L + weight * known.L_R
        if smallest.item() > 0:
            return 2 / (smallest + largest), 2 / largest
        return 1 / largest, 2 / largest


class ProximalGradientSteps(StepSizeRule):
    r"""
    PGD: :math:`\tau_1 = \min(2 / (L + \lambda \rho), 1 / (\lambda \rho))`. With
    :math:`\mu > \lambda \rho` the default is the step size of the best rate,
    :math:`2 / (\mu + L)`, otherwise :math:`\tau_1 / 2`, which is :math:`1 / L` for a
    convex prior. With a denoiser of which nothing is proved, the interval is that of
    the gradient step on the data fidelity, :math:`\rho = 0`. With a denoiser that is
    the exact proximal operator of a :math:`\rho_D`-weakly convex function,
    :math:`\lambda \rho = \rho_D / \tau`, so that :math:`\tau_1 = (2 - \rho_D) / L`,
    and :math:`2 / (\mu + L)` is the default if it is smaller: then PGD contracts.
    """

    def interval(self, known: Curvatures, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the default step size and the upper end."""
        best = torch.full_like(weight, 2 / (known.mu + known.L))
        if known.m_prox < 0:
            end = torch.full_like(weight, (2 + known.m_prox) / known.L)
            return (best if best.item() < end.item() else end / 2), end
        rho = weight * max(-known.m, 0.0)
        end = 2 / (known.L + rho) if rho.item() <= known.L else 1 / rho
        if rho.item() < known.mu:
            return best, end
        return end / 2, end


class AcceleratedSteps(StepSizeRule):
    r"""FISTA: :math:`\tau_0 = \tau_1 = 1 / L`, for a convex prior."""

    def interval(self, known: Curvatures, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the default step size and the upper end."""
        if known.m < 0:
            raise NoStepSizeError(
                _needs_number(
                    "FISTA is not proved to converge for a weakly convex prior"
                )
            )
        end = torch.full_like(weight, 1 / known.L)
        return end, end


class HalfQuadraticSteps(StepSizeRule):
    r"""
    HQS: every step size, if the prior is convex; :math:`\tau_1 = 1 / (\lambda \rho)
    - 1 / \mu` for :math:`\mu > \lambda \rho > 0`, in which the iteration contracts, and
    otherwise :math:`\tau_1 = 1 / (\lambda \rho)`. The default is
    :math:`\min(1 / L, \tau_1 / 2)`, and the interval ends at most at a hundred times
    the default. The step size is a parameter of the objective: the fixed point depends
    on it.
    """

    def interval(self, known: Curvatures, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the default step size and the upper end."""
        start = torch.full_like(weight, 1 / known.L)
        rho = weight * max(-known.m, 0.0)
        if rho.item() == 0:
            return start, _WIDE * start
        shift = 1 / known.mu if rho.item() < known.mu else 0.0
        end = 1 / rho - shift
        start = torch.minimum(start, end / 2)
        return start, torch.minimum(end, _WIDE * start)


class SplittingSteps(StepSizeRule):
    r"""
    DRS and ADMM: every step size, if the prior is convex; :math:`\tau_1 = 1 /
    \sqrt{\lambda \rho L}` for :math:`\mu > \lambda \rho > 0`, in which
    the iteration contracts. The default is :math:`1 / \sqrt{\mu L}`, the step size of
    the best rate, or :math:`1 / L` for :math:`\mu = 0`, and the interval ends at most
    at a hundred times the default.
    """

    def interval(self, known: Curvatures, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the default step size and the upper end."""
        best = 1 / math.sqrt(known.mu * known.L) if known.mu > 0 else 1 / known.L
        start = torch.full_like(weight, best)
        rho = weight * max(-known.m, 0.0)
        if rho.item() == 0:
            return start, _WIDE * start
        if known.mu <= rho.item():
            raise NoStepSizeError(
                _needs_number(
                    "the algorithm is not proved to converge for a prior whose modulus "
                    f"lambda rho = {rho.item():g} is not below mu = {known.mu:g}"
                )
            )
        return start, torch.minimum((rho * known.L).rsqrt(), _WIDE * start)


def _upper(bound: Bound) -> float:
    return bound.value if bound.is_certified else _MARGIN * bound.value


def _needs_number(reason: str) -> str:
    return f"stepsize='auto' has no value: {reason}. Give stepsize a number."


def _curvature_of_denoiser(denoiser: Any, img_size: Sequence[int]) -> float:
    """Return the curvature of the function whose exact proximal operator a denoiser is,
    or 0 if it is not known to be negative."""
    # Not by ProxConstants, which call the denoiser on random images: the curvature is
    # read again after every step of an optimiser.
    with contextlib.suppress(UncertifiableModuleError):
        denoiser = wrapped_denoiser(denoiser, tuple(img_size))
        if declares(denoiser, "convexity_bound", "forward"):
            return min(denoiser.convexity_bound(tuple(img_size)).value, 0.0)
    return 0.0
