"""The variables in which forward-backward iterations on wavelets are made."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor

from .wavelet_prior import WeightedWaveletPrior
from .wavelet_transform import Coefficients


@dataclass(frozen=True)
class CoefficientScaling:
    r"""
    Scaled wavelet coefficients :math:`u = \rho w`, of which the prior is a plain group
    norm, :math:`\|\theta w\|_{1,2} = \sum_j m_j \|u_j\|_{1,2}`, with :math:`\theta =
    m \rho` and one number :math:`m_j` a scale.

    Any :math:`m_j > 0` will do. The paper's is 1, :math:`\rho = \theta`; normalised it
    is the smallest weight of the scale, so that :math:`\min \rho_j = 1` for each
    :math:`j`: it is then the ratios of the weights within a scale alone that the step
    size, and the rate, depend on.

    The approximation is not penalised, and its :math:`\rho_a` is free. With
    :math:`\rho_a^{-2}` in the middle between the smallest and the largest
    :math:`\rho^{-2}` of the details, these bound the spectrum of :math:`\rho^{-2}`. (It
    is 1 in the paper, where :math:`1/\min(\theta)^2` is the Lipschitz constant for
    :math:`\min(\theta) \leq 1` only.)

    :param tuple rho: :math:`\rho` of the details, from the coarsest scale to the
        finest, with their axes.
    :param tuple threshold: :math:`m_j`, without gradient: it cancels.
    :param float smallest: :math:`1/\max(\rho)^2`.
    :param float largest: :math:`1/\min(\rho)^2`.
    """

    rho: tuple[Tensor, ...]
    threshold: tuple[float, ...]
    smallest: float
    largest: float

    @staticmethod
    def of(
        prior: WeightedWaveletPrior, like: Tensor, normalised: bool
    ) -> CoefficientScaling:
        r"""
        :param WeightedWaveletPrior prior: the prior, with the weights :math:`\theta`.
        :param torch.Tensor like: has the dtype and device of the coefficients.
        :param bool normalised: whether :math:`m_j` is the smallest weight of the scale.
        """
        theta = prior.weights(like)
        if normalised:
            threshold = tuple(t.amin().item() for t in theta)
        else:
            threshold = (1.0,) * len(theta)
        rho = tuple(t / m for t, m in zip(theta, threshold, strict=True))
        smallest = max(r.amax().item() for r in rho) ** -2
        largest = min(r.amin().item() for r in rho) ** -2
        return CoefficientScaling(rho, threshold, smallest, largest)

    @property
    def approximation(self) -> float:
        r""":math:`\rho_a`."""
        return float((2 / (self.smallest + self.largest)) ** 0.5)

    @cached_property
    def inverse(self) -> tuple[Tensor, ...]:
        r""":math:`\rho^{-1}` of the approximation, and of the details."""
        details = [1 / rho for rho in self.rho]
        return (details[0].new_tensor(1 / self.approximation), *details)

    def unscale(self, u: Coefficients) -> Coefficients:
        r"""
        :param tuple u: scaled coefficients.
        :return: the coefficients :math:`w = \rho^{-1} u`.
        """
        return tuple(u * inverse for u, inverse in zip(u, self.inverse, strict=True))

    def step_size(
        self, rule: float | Literal["optimal"], lower: float, upper: float
    ) -> float:
        r"""
        The step size for :math:`\lambda I \leq A^\top A \leq \Lambda I`.

        :param float, str rule: :math:`\tau L`, :math:`L = \Lambda / \min(\rho)^2`, or
            ``"optimal"`` for :math:`\tau = 2 / (\mu + L)`, :math:`\mu = \lambda /
            \max(\rho)^2`.
        :param float lower: :math:`\lambda`, which only the optimal one asks for.
        :param float upper: :math:`\Lambda`.
        :raises ValueError: if the optimal one is asked for with :math:`\lambda = 0`.
        """
        L = upper * self.largest
        if rule != "optimal":
            return rule / L
        if lower == 0:
            raise ValueError(
                "stepsize='optimal' takes a physics whose spectrum has a positive "
                "lower end: without one the iterations need not converge; give a "
                "number below 2, such as stepsize=1.95."
            )
        return 2 / (lower * self.smallest + L)
