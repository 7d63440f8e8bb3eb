"""Positive functions that turn the numbers of a network into weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ...fixed_points.argument_checks import require_in_range

# Smallest and largest weight relative to the scale. A map does not need smaller or
# larger ones, and these do not underflow or overflow.
_FLOOR = 1e-6
_CAP = 1e6


class Positivity(nn.Module, ABC):
    r"""
    An increasing map from the real numbers, including infinite ones, to positive and
    finite weights.

    It has no trained parameters. It returns NaN for NaN, so that errors are not hidden.
    """

    @abstractmethod
    def forward(self, raw: Tensor) -> Tensor:
        r"""
        Return the weights of raw numbers.

        :param torch.Tensor raw: real numbers, float32 or float64, of any shape.
        :return: (:class:`torch.Tensor`) weights of the same shape and dtype.
        """

    @abstractmethod
    def initial(self, value: float) -> float:
        r"""
        Return the raw number of a weight, the inverse of the map.

        :param float value: a weight.
        :return: (float) the raw number that is mapped to this weight.
        :raises ValueError: if no raw number is mapped to this weight.
        """


class Softplus(Positivity):
    r"""
    A positive weight without an effective upper bound,

    .. math::

        \lambda = s \left(\log(1 + e^{\min(r, 10^6)}) + 10^{-6}\right),

    as in :footcite:t:`kofler2023learning`, where :math:`s = 0.1`. We depart from the
    paper in the floor :math:`10^{-6} s` and the cap :math:`10^6 s`. Without them, the
    weight is 0 for large negative :math:`r`, and its square is infinite for large
    positive :math:`r`.

    :param float scale: :math:`s > 0`, in the unit of the images.
    :raises ValueError: if ``scale`` is not positive and finite.
    """

    def __init__(self, scale: float = 0.1) -> None:
        super().__init__()
        require_in_range("scale", scale)
        self.scale = float(scale)

    def forward(self, raw: Tensor) -> Tensor:
        r"""
        Return the weights of raw numbers.

        :param torch.Tensor raw: real numbers, float32 or float64, of any shape.
        :return: (:class:`torch.Tensor`) weights of the same shape and dtype.
        """
        # Above this threshold the softplus equals the identity in float64.
        smooth = softplus(raw.clamp(max=_CAP), threshold=40.0)
        return self.scale * (smooth + _FLOOR)

    def initial(self, value: float) -> float:
        r"""
        Return the raw number of a weight.

        :param float value: a weight between :math:`10^{-6} s` and :math:`10^6 s`, both
            excluded.
        :return: (float) the raw number that is mapped to this weight.
        :raises ValueError: if ``value`` is out of this range.
        """
        _check_range("scale", value, _FLOOR * self.scale, _CAP * self.scale)
        smooth = value / self.scale - _FLOOR
        return smooth + math.log(-math.expm1(-smooth))

    def extra_repr(self) -> str:
        """Return the scale."""
        return f"scale={self.scale:g}"


class BoundedSigmoid(Positivity):
    r"""
    A positive weight with an upper bound,

    .. math::

        \lambda = b \left(10^{-6} + \frac{1 - 10^{-6}}{1 + e^{-r}}\right)
        \in [10^{-6} b, b],

    as in :footcite:t:`kofler2023learning` for denoising, where :math:`b = 0.5`. We
    depart from the paper in the floor, without which the weight is 0 for large negative
    :math:`r`.

    :param float bound: :math:`b > 0`, in the unit of the images.
    :raises ValueError: if ``bound`` is not positive and finite.
    """

    def __init__(self, bound: float = 0.5) -> None:
        super().__init__()
        require_in_range("bound", bound)
        self.bound = float(bound)

    def forward(self, raw: Tensor) -> Tensor:
        r"""
        Return the weights of raw numbers.

        :param torch.Tensor raw: real numbers, float32 or float64, of any shape.
        :return: (:class:`torch.Tensor`) weights of the same shape and dtype.
        """
        return self.bound * torch.lerp(
            torch.full_like(raw, _FLOOR), torch.ones_like(raw), torch.sigmoid(raw)
        )

    def initial(self, value: float) -> float:
        r"""
        Return the raw number of a weight.

        :param float value: a weight between :math:`10^{-6} b` and :math:`b`, both
            excluded.
        :return: (float) the raw number that is mapped to this weight.
        :raises ValueError: if ``value`` is out of this range.
        """
        floor = _FLOOR * self.bound
        _check_range("bound", value, floor, self.bound)
        return math.log(value - floor) - math.log(self.bound - value)

    def extra_repr(self) -> str:
        """Return the upper bound."""
        return f"bound={self.bound:g}"


def _check_range(name: str, value: float, lower: float, upper: float) -> None:
    if not lower < value < upper:
        raise ValueError(
            f"the weight must be between {lower:g} and {upper:g}, both excluded, got "
            f"{value!r}; change {name}, which determines this range."
        )
