"""The scaled wavelet coefficients in which forward-backward iterations run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from .wavelet_prior import WeightedWaveletPrior
from .wavelet_transform import Coefficients


@dataclass(frozen=True)
class CoefficientScaling:
    r"""
    Scaled wavelet coefficients :math:`u = \rho w`, in which the prior is a group norm
    with one weight :math:`m_j` for each scale,
    :math:`\|\theta w\|_{1,2} = \sum_j m_j \|u_j\|_{1,2}` with
    :math:`\theta = m \rho`.

    Every :math:`m_j > 0` is valid. :footcite:t:`davy2025restarted` have
    :math:`m_j = 1`, :math:`\rho = \theta`. The normalised scaling has the smallest
    weight of the scale as :math:`m_j`, so that :math:`\min \rho_j = 1` for each
    :math:`j`: the step size and the rate then depend on the ratios of the weights
    within a scale only.

    The approximation is not penalised, and its scaling :math:`\rho_a` is free. We
    choose :math:`\rho_a^{-2}` in the middle between the smallest and the largest
    :math:`\rho^{-2}` of the details, so that these bound the spectrum of
    :math:`\rho^{-2}`. (The paper has :math:`\rho_a = 1`, for which its Lipschitz
    constant :math:`1/\min(\theta)^2` holds if :math:`\min(\theta) \leq 1`.)

    All values have gradients in :math:`\theta`, because the result of a finite number
    of iterations depends on each of them. Only :attr:`approximation` is a number: it is
    the unit of a component of the state, which has no effect on the image, and without
    a gradient the initial state does not depend on :math:`\theta`. If several weights
    are the smallest one, the derivative of the minimum is the mean over them.

    :param tuple rho: :math:`\rho` of the details, from the coarsest scale to the
        finest, with the axes of the details.
    :param tuple threshold: the :math:`m_j`, of shape ``()``.
    :param torch.Tensor smallest: :math:`1/\max(\rho)^2`, of shape ``()``.
    :param torch.Tensor largest: :math:`1/\min(\rho)^2`, of shape ``()``.
    """

    rho: tuple[Tensor, ...]
    threshold: tuple[Tensor, ...]
    smallest: Tensor
    largest: Tensor

    @staticmethod
    def of(
        prior: WeightedWaveletPrior, like: Tensor, normalised: bool
    ) -> CoefficientScaling:
        r"""
        Return the scaling of a prior.

        :param WeightedWaveletPrior prior: the prior, with the weights :math:`\theta`.
        :param torch.Tensor like: a tensor with the dtype and device of the
            coefficients.
        :param bool normalised: whether :math:`m_j` is the smallest weight of the scale;
            else it is 1.
        """
        theta = prior.weights(like)
        if normalised:
            threshold = tuple(t.amin() for t in theta)
        else:
            threshold = (like.new_ones(()),) * len(theta)
        rho = tuple(t / m for t, m in zip(theta, threshold, strict=True))
        smallest = torch.stack([r.amax() for r in rho]).amax() ** -2
        largest = torch.stack([r.amin() for r in rho]).amin() ** -2
        return CoefficientScaling(rho, threshold, smallest, largest)

    @cached_property
    def curvatures(self) -> tuple[Tensor, ...]:
        r"""The :math:`\rho^{-2}` of the approximation and of the details."""
        details = [1 / rho.square() for rho in self.rho]
        return ((self.smallest + self.largest) / 2, *details)

    @cached_property
    def approximation(self) -> Tensor:
        r"""Scaling :math:`\rho_a` of the approximation, without gradient."""
        return self.curvatures[0].detach().rsqrt()

    @cached_property
    def inverse(self) -> tuple[Tensor, ...]:
        r"""The :math:`\rho^{-1}` of the approximation, without gradient, and of the
        details."""
        return (1 / self.approximation, *(1 / rho for rho in self.rho))

    def unscale(self, u: Coefficients) -> Coefficients:
        r"""
        Return the coefficients :math:`w = \rho^{-1} u`.

        :param tuple u: scaled coefficients.
        """
        return tuple(u * inverse for u, inverse in zip(u, self.inverse, strict=True))

    def step_size(
        self, rule: float | Literal["optimal"], lower: float, upper: float
    ) -> Tensor:
        r"""
        Return the step size :math:`\tau` for
        :math:`\lambda I \preceq A^\top A \preceq \Lambda I`.

        With :math:`L = \Lambda / \min(\rho)^2` and
        :math:`\mu = \lambda / \max(\rho)^2`, the rule is the number :math:`\tau L`, or
        ``"optimal"`` for :math:`\tau = 2 / (\mu + L)`.

        :param float, str rule: the rule.
        :param float lower: :math:`\lambda`; the optimal step size alone depends on it.
        :param float upper: :math:`\Lambda`.
        :return: (:class:`torch.Tensor`) :math:`\tau`, of shape ``()``, with a gradient
            in :math:`\theta`.
        :raises ValueError: if the rule is ``"optimal"`` and :math:`\lambda = 0`.
        """
        L = upper * self.largest
        if rule != "optimal":
            return rule / L
        if lower == 0:
            raise ValueError(
                "stepsize='optimal' needs a physics whose spectrum has a positive "
                "lower end: without one the iterations need not converge; give a "
                "number below 2, such as stepsize=1.95."
            )
        return 2 / (lower * self.smallest + L)
