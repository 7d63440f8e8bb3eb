"""Weighted total variation: value, proximal operator, and their exact gradients."""

from .dual_bounds import duality_gap
from .flat_components import connected_components
from .image_differences import (
    differences,
    differences_adjoint,
    differences_norm_squared,
)
from .implicit_gradient import Jumps, PiecewiseConstantStep
from .primal_dual_step import PrimalDualTVStep
from .smoothed_tv_prior import SmoothedTVPrior
from .tv_denoising import TVDenoising, solve_denoising
from .tv_groups import TVNorm
from .tv_prior import WeightedTVPrior
from .tv_proximal import weighted_tv_prox
from .tv_weights import as_weight

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
