"""The Kullback-Leibler divergence of Poisson noise from its mean."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch
from deepinv.optim.distance import Distance
from torch import Tensor

Scalar: TypeAlias = float | Tensor
"""A number, or one a sample: a tensor of shape (B,), or with axes of length 1."""


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
    :param float, torch.Tensor background: :math:`b \geq 0`, in the unit of :math:`u`:
        also one a pixel, with as many axes as :math:`u`.
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
        :raises ValueError: if the gain is not known, it or the background does not fit
            the batch, or ``y`` is negative.
        """
        gain, y, background = self.in_unit_of_u(u, y)
        shifted = u + background
        # For y > 0 a term is y (d - log(1 + d)), without the cancellation of large y.
        counted = y > 0
        excess = (shifted - y) / torch.where(counted, y, 1)
        excess = torch.where(counted & (shifted > 0), excess, 0)
        terms = torch.where(counted, y * (excess - torch.log1p(excess)), shifted)
        outside = (shifted < 0) | counted & (shifted == 0)
        unknown = shifted.isnan() | y.isnan()
        terms = torch.where(outside, math.inf, terms).masked_fill(unknown, math.nan)
        terms = terms / gain
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
        weight = broadcast("gamma", gamma, v) / gain
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
        gain = broadcast("gain", self.gain, u)
        background = broadcast("background", self.background, u, pixels=True)
        return gain, y if self.normalize else y * gain, background


def broadcast(name: str, value: Scalar, x: Tensor, pixels: bool = False) -> Scalar:
    r"""
    :param str name: what the number is called in an error.
    :param float, torch.Tensor value: one number, or one a sample.
    :param torch.Tensor x: images or measurements, of shape :math:`(B, ...)`.
    :param bool pixels: whether it may also have the axes of ``x``, to be broadcast.
    :return: the number in the dtype and on the device of ``x``, along its first axis.
    :raises ValueError: if it does not fit ``x``.
    """
    if not isinstance(value, Tensor):
        return value
    field = value.ndim == x.ndim and all(
        got in (1, full) for got, full in zip(value.shape, x.shape, strict=True)
    )
    if pixels and field:
        return value.to(x)
    if value.numel() not in (1, len(x)):
        remedy = ", or have as many axes as they and be broadcastable" if pixels else ""
        raise ValueError(
            f"{name} must be one number, or one for each of the {len(x)} samples of "
            f"shape {tuple(x.shape[1:])}{remedy}, got shape {tuple(value.shape)}."
        )
    return value.to(x).reshape(-1, *[1] * (x.ndim - 1))
