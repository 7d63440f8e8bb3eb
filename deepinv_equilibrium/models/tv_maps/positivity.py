"""What makes a positive weight of any number that a network returns."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

# Weights are kept this far from 0 and, where nothing else bounds them, from infinity,
# relative to the scale: far beyond what a map needs, far from under- and overflow.
_FLOOR = 1e-6
_CAP = 1e6


class Positivity(nn.Module, ABC):
    r"""
    An increasing map from all real numbers, infinite ones included, to positive finite
    weights.

    It holds nothing that is trained. A NaN stays a NaN, so that it is seen.
    """

    @abstractmethod
    def forward(self, raw: Tensor) -> Tensor:
        r"""
        :param torch.Tensor raw: real numbers, float32 or float64, of any shape.
        :return: (:class:`torch.Tensor`) weights of the same shape and dtype.
        """

    @abstractmethod
    def initial(self, value: float) -> float:
        r"""
        Invert the map, to start from a wanted weight.

        :param float value: a weight.
        :return: (float) the raw number that gives this weight.
        :raises ValueError: if no raw number gives it.
        """


class Softplus(Positivity):
    r"""
    A positive weight without a bound that is felt:

    .. math::

        \lambda = s \left(\log(1 + e^{\min(r, 10^6)}) + 10^{-6}\right),

    as in :footcite:t:`kofler2023learning`, where :math:`s = 0.1`. It departs from there
    in the floor :math:`10^{-6} s` and the cap :math:`10^6 s`: the softplus alone is 0
    for large negative :math:`r`, and its square infinite for large positive :math:`r`.

    :param float scale: :math:`s > 0`, in the unit of the images.
    :raises ValueError: if ``scale`` is not positive and finite.
    """

    def __init__(self, scale: float = 0.1) -> None:
        super().__init__()
        self.scale = _check_positive("scale", scale)

    def forward(self, raw: Tensor) -> Tensor:
        r"""
        :param torch.Tensor raw: real numbers, float32 or float64, of any shape.
        :return: (:class:`torch.Tensor`) weights of the same shape and dtype.
        """
        # Beyond the threshold the softplus is the identity, to the rounding of float64.
        smooth = softplus(raw.clamp(max=_CAP), threshold=40.0)
        return self.scale * (smooth + _FLOOR)

    def initial(self, value: float) -> float:
        r"""
        :param float value: a weight between :math:`10^{-6} s` and :math:`10^6 s`, both
            excluded.
        :return: (float) the raw number that gives this weight.
        :raises ValueError: if ``value`` is out of this range.
        """
        _check_range("scale", value, _FLOOR * self.scale, _CAP * self.scale)
        smooth = value / self.scale - _FLOOR
        return smooth + math.log(-math.expm1(-smooth))

    def extra_repr(self) -> str:
        """Return what the representation shows: the scale."""
        return f"scale={self.scale:g}"


class BoundedSigmoid(Positivity):
    r"""
    A positive weight with a bound:

    .. math::

        \lambda = b \left(10^{-6} + \frac{1 - 10^{-6}}{1 + e^{-r}}\right)
        \in [10^{-6} b, b],

    as :footcite:t:`kofler2023learning` have it for denoising, where :math:`b = 0.5`. It
    departs from there in the floor: the sigmoid alone is 0 for large negative
    :math:`r`.

    :param float bound: :math:`b > 0`, in the unit of the images.
    :raises ValueError: if ``bound`` is not positive and finite.
    """

    def __init__(self, bound: float = 0.5) -> None:
        super().__init__()
        self.bound = _check_positive("bound", bound)

    def forward(self, raw: Tensor) -> Tensor:
        r"""
        :param torch.Tensor raw: real numbers, float32 or float64, of any shape.
        :return: (:class:`torch.Tensor`) weights of the same shape and dtype.
        """
        return self.bound * torch.lerp(
            torch.full_like(raw, _FLOOR), torch.ones_like(raw), torch.sigmoid(raw)
        )

    def initial(self, value: float) -> float:
        r"""
        :param float value: a weight between :math:`10^{-6} b` and :math:`b`, both
            excluded.
        :return: (float) the raw number that gives this weight.
        :raises ValueError: if ``value`` is out of this range.
        """
        floor = _FLOOR * self.bound
        _check_range("bound", value, floor, self.bound)
        return math.log(value - floor) - math.log(self.bound - value)

    def extra_repr(self) -> str:
        """Return what the representation shows: the bound."""
        return f"bound={self.bound:g}"


def _check_positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}.")
    return float(value)


def _check_range(name: str, value: float, lower: float, upper: float) -> None:
    if not lower < value < upper:
        raise ValueError(
            f"the weight must be between {lower:g} and {upper:g}, both excluded, got "
            f"{value!r}; another {name} gives another range."
        )
