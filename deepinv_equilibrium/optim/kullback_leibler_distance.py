"""The Kullback-Leibler divergence of Poisson noise from its mean."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch
from deepinv.optim.distance import Distance
from torch import Tensor

Scalar: TypeAlias = float | Tensor
"""A number, or one a sample: a tensor of shape (B,), or broadcast over images."""


class KullbackLeiblerDistance(Distance):
    r"""
    The Kullback-Leibler divergence of counts from their mean,

    .. math::

        d(u, y) = \sum_i c_i \log \frac{c_i}{m_i} + m_i - c_i, \qquad
        m = \frac{u + b}{\gamma}, \qquad
        c = \begin{cases} y / \gamma & \text{normalized,} \\ y & \text{else,}\end{cases}

    with :math:`0 \log 0 = 0`, and :math:`\infty` where a mean is negative, or zero and
    its count is not. It is :math:`-\log P(y \mid u)` of
    :class:`deepinv.physics.PoissonNoise`, but for a constant. See
    :class:`KullbackLeibler`.

    :param float, torch.Tensor gain: :math:`\gamma > 0`; ``None`` if it is not known.
    :param bool normalize: whether the counts were multiplied by the gain.
    :param float, torch.Tensor background: :math:`b \geq 0`, in the unit of :math:`u`.
    """

    def __init__(
        self, gain: Scalar | None, normalize: bool = True, background: Scalar = 0.0
    ):
        super().__init__()
        self.gain: Scalar | None
        self.background: Scalar
        for name, value in (("gain", gain), ("background", background)):
            if isinstance(value, Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)
        self.normalize = normalize

    def fn(self, u: Tensor, y: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""
        :param torch.Tensor u: noise-free measurement :math:`u`, of shape
            :math:`(B, ...)`.
        :param torch.Tensor y: measurement, of the same shape.
        :return: :math:`d(u, y)`, of shape :math:`(B,)`. The terms are summed in
            float64.
        :raises ValueError: if the gain is not known, or ``y`` is negative.
        """
        gain, y, background = self.in_unit_of_u(u, y)
        shifted = u + background
        # For y > 0 a term is y (d - log(1 + d)), without the cancellation of large y.
        counted = y > 0
        excess = (shifted - y) / torch.where(counted, y, 1)
        excess = torch.where(counted & (shifted > 0), excess, 0)
        terms = torch.where(counted, y * (excess - torch.log1p(excess)), shifted)
        outside = (shifted < 0) | counted & (shifted == 0)
        terms = torch.where(outside, math.inf, terms) / gain
        return terms.flatten(1).sum(dim=1, dtype=torch.float64).to(u.dtype)

    def grad(self, u: Tensor, y: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""
        :param torch.Tensor u: noise-free measurement.
        :param torch.Tensor y: measurement, of the same shape.
        :return: :math:`\nabla_u d(u, y) = (1 - c / m) / \gamma`.
        :raises ValueError: as :meth:`fn`.
        """
        gain, y, background = self.in_unit_of_u(u, y)
        shifted = u + background
        # Without counts it is linear, also where its mean is 0.
        ratio = y / torch.where(y > 0, shifted, 1)
        return (1 - ratio) / gain

    def prox(
        self, v: Tensor, y: Tensor, *args: Any, gamma: Scalar = 1.0, **kwargs: Any
    ) -> Tensor:
        r"""
        The proximal operator :math:`u` of :math:`\tau d(\cdot, y)`, in closed form,

        .. math::

            u + b = \tfrac12 \bigl(w + \sqrt{w^2 + 4 \tau c}\bigr), \qquad
            w = v + b - \tau / \gamma .

        :param torch.Tensor v: where it is evaluated.
        :param torch.Tensor y: measurement, of the same shape.
        :param float, torch.Tensor gamma: :math:`\tau`, one or one a sample.
        :return: :math:`u`.
        :raises ValueError: as :meth:`fn`.
        """
        gain, y, background = self.in_unit_of_u(v, y)
        weight = broadcast(gamma, v) / gain
        w = v + background - weight
        product = weight * y
        # The sum of two positive numbers, and the other root from their product; the
        # bound from below gives the root a derivative where both are 0.
        tiny = torch.finfo(v.dtype).tiny
        root = (w.square() + 4 * product).clamp_min(tiny).sqrt()
        larger = (root + w.abs()) / 2
        return torch.where(w >= 0, larger, product / larger) - background

    def in_unit_of_u(self, u: Tensor, y: Tensor) -> tuple[Scalar, Tensor, Scalar]:
        """Gain, normalized measurement and background, to be broadcast over images."""
        if self.gain is None:
            raise ValueError(
                "gain must be given, as in KullbackLeibler(gain=0.05), where no "
                "physics with PoissonNoise is at hand to take it from."
            )
        if bool((y < 0).any()):
            raise ValueError(
                "y must be nonnegative, as Poisson noise is, got "
                f"{float(y.min()):.3g}; clip it, y.clamp(min=0)."
            )
        gain, background = broadcast(self.gain, u), broadcast(self.background, u)
        return gain, y if self.normalize else y * gain, background


def broadcast(value: Scalar, x: Tensor) -> Scalar:
    """In the dtype and on the device of images, one a sample along their first axis."""
    if not isinstance(value, Tensor):
        return value
    value = value.to(x)
    return value.reshape(-1, *[1] * (x.ndim - 1)) if value.ndim == 1 else value
