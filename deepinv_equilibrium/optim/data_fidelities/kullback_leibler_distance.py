"""The Kullback-Leibler divergence of counts from their mean."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch
from deepinv.optim.distance import Distance
from torch import Tensor

Scalar: TypeAlias = float | Tensor
"""A number or one number a sample, of shape (B,) or with further axes of length 1."""


class KullbackLeiblerDistance(Distance):
    r"""
    The Kullback-Leibler divergence of counts from their mean,

    .. math::

        d(u, y) = \sum_i c_i \log \frac{c_i}{m_i} + m_i - c_i, \qquad
        m = \frac{u + b}{\gamma}, \qquad
        c = \begin{cases} y / \gamma & \text{normalized,} \\ y & \text{else,}\end{cases}

    with :math:`0 \log 0 = 0`. The divergence is :math:`\infty` if a mean is negative,
    or zero with a positive count. Up to a constant it is :math:`-\log P(y \mid u)` of
    :class:`deepinv.physics.PoissonNoise`.
    :class:`~deepinv_equilibrium.optim.KullbackLeibler` is the data fidelity.

    :param float, torch.Tensor gain: :math:`\gamma > 0`; ``None`` if it is unknown.
    :param bool normalize: whether :math:`y` is the counts times the gain. Default:
        ``True``.
    :param float, torch.Tensor background: :math:`b \geq 0`, in the unit of :math:`u`: a
        number, one number a sample, or a tensor with as many axes as :math:`u` that
        broadcasts to it. Default: 0.
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
        Evaluate the divergence. Its terms are summed in float64.

        :param torch.Tensor u: noise-free measurement :math:`u`, of shape
            :math:`(B, ...)`.
        :param torch.Tensor y: measurement, of the shape of ``u``.
        :return: (:class:`torch.Tensor`) :math:`d(u, y)`, of shape :math:`(B,)`.
        :raises ValueError: if the gain is unknown, ``y`` is negative, or the gain or
            the background does not fit the batch.
        """
        gain, y, background = self.in_unit_of_u(u, y)
        shifted = u + background
        # For y > 0 a term is y (d - log(1 + d)), in which large y do not cancel.
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
        Return the gradient :math:`\nabla_u d(u, y) = (1 - c / m) / \gamma`.

        :param torch.Tensor u: noise-free measurement, of shape :math:`(B, ...)`.
        :param torch.Tensor y: measurement, of the shape of ``u``.
        :return: (:class:`torch.Tensor`) the gradient, of the shape of ``u``.
        :raises ValueError: if the gain is unknown, ``y`` is negative, or the gain or
            the background does not fit the batch.
        """
        gain, y, background = self.in_unit_of_u(u, y)
        shifted = u + background
        # A term without counts is linear, also at mean 0.
        ratio = y / torch.where(y > 0, shifted, 1)
        return (1 - ratio) / gain

    def prox(
        self, v: Tensor, y: Tensor, *args: Any, gamma: Scalar = 1.0, **kwargs: Any
    ) -> Tensor:
        r"""
        Evaluate the proximal operator :math:`u` of :math:`\tau d(\cdot, y)` in closed
        form,

        .. math::

            u + b = \tfrac12 \bigl(w + \sqrt{w^2 + 4 \tau c}\bigr), \qquad
            w = v + b - \tau / \gamma .

        :param torch.Tensor v: argument :math:`v`, of shape :math:`(B, ...)`.
        :param torch.Tensor y: measurement, of the shape of ``v``.
        :param float, torch.Tensor gamma: step size :math:`\tau`, a number or one number
            a sample.
        :return: (:class:`torch.Tensor`) :math:`u`, of the shape of ``v``.
        :raises ValueError: if the gain is unknown, ``y`` is negative, or the gain or
            the background does not fit the batch.
        """
        gain, y, background = self.in_unit_of_u(v, y)
        weight = broadcast("gamma", gamma, v) / gain
        w = v + background - weight
        product = weight * y
        # The larger root is a sum of positive numbers; the product of both roots gives
        # the other one. The lower bound keeps the derivative finite where both are 0.
        tiny = torch.finfo(v.dtype).tiny
        root = (w.square() + 4 * product).clamp_min(tiny).sqrt()
        larger = (root + w.abs()) / 2
        return torch.where(w >= 0, larger, product / larger) - background

    def in_unit_of_u(self, u: Tensor, y: Tensor) -> tuple[Scalar, Tensor, Scalar]:
        """Return gain, measurement in the unit of u, and background, broadcastable."""
        if self.gain is None:
            raise ValueError(
                "gain must be given, as in KullbackLeibler(gain=0.05), unless the "
                "physics has a PoissonNoise."
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
    Return a number with axes that broadcast to a tensor.

    :param str name: name of the number in errors.
    :param float, torch.Tensor value: a number, or one number a sample.
    :param torch.Tensor x: images or measurements, of shape :math:`(B, ...)`.
    :param bool pixels: whether ``value`` may also have as many axes as ``x``.
    :return: (float, :class:`torch.Tensor`) the number; a tensor is in the dtype and on
        the device of ``x``.
    :raises ValueError: if ``value`` does not fit ``x``.
    """
    if not isinstance(value, Tensor):
        return value
    field = value.ndim == x.ndim and all(
        got in (1, full) for got, full in zip(value.shape, x.shape, strict=True)
    )
    if pixels and field:
        return value.to(x)
    if value.numel() not in (1, len(x)):
        remedy = ", or broadcastable with as many axes" if pixels else ""
        raise ValueError(
            f"{name} must be one number, or one for each of the {len(x)} samples of "
            f"shape {tuple(x.shape[1:])}{remedy}, got shape {tuple(value.shape)}."
        )
    return value.to(x).reshape(-1, *[1] * (x.ndim - 1))
