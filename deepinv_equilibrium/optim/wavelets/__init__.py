"""Orthonormal wavelets, and the weighted norm of their coefficients as a prior."""

from .coefficient_scaling import CoefficientScaling
from .forward_backward_step import WaveletForwardBackwardStep
from .group_proximal import group_prox
from .wavelet_prior import WeightedWaveletPrior
from .wavelet_transform import Coefficients, WaveletTransform

__all__ = [
    "CoefficientScaling",
    "Coefficients",
    "WaveletForwardBackwardStep",
    "WaveletTransform",
    "WeightedWaveletPrior",
    "group_prox",
]
