"""Weighted total variation, with exact gradients of its proximal operator."""

from .image_differences import (
    differences,
    differences_adjoint,
    differences_norm_squared,
)
from .implicit_gradient import Jumps, PiecewiseConstantStep, connected_components
from .primal_dual_step import PrimalDualTVStep
from .smoothed_tv_prior import SmoothedTVPrior
from .tv_denoising import TVDenoising, duality_gap, solve_denoising
from .tv_groups import TVNorm, as_weight
from .tv_prior import WeightedTVPrior
from .tv_proximal import weighted_tv_prox

__all__ = [
    "Jumps",
    "PiecewiseConstantStep",
    "PrimalDualTVStep",
    "SmoothedTVPrior",
    "TVDenoising",
    "TVNorm",
    "WeightedTVPrior",
    "as_weight",
    "connected_components",
    "differences",
    "differences_adjoint",
    "differences_norm_squared",
    "duality_gap",
    "solve_denoising",
    "weighted_tv_prox",
]
