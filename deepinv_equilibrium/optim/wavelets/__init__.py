"""Orthonormal wavelets, and the weighted norm of their coefficients as a prior."""

from .forward_backward_step import WaveletForwardBackwardStep
from .group_prox import group_prox
from .prior import WeightedWaveletPrior
from .scaling import CoefficientScaling
from .transform import Coefficients, WaveletTransform

__all__ = [
    "CoefficientScaling",
    "Coefficients",
    "WaveletForwardBackwardStep",
    "WaveletTransform",
    "WeightedWaveletPrior",
    "group_prox",
]
