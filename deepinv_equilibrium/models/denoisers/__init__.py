"""Denoisers with certified Lipschitz constants, and small or pretrained ones."""

from .bounded_convolution import BoundedConvolution
from .bounded_dncnn import BoundedDnCNN
from .composed_filters import ComposedFilters
from .convex_potential_denoiser import ConvexPotentialDenoiser
from .convex_potential_layer import ConvexPotentialLayer
from .linear_spline import LinearSpline
from .noise_scaling import NoiseScaling
from .pretrained_denoisers import gradient_step_drunet, pretrained_drunet
from .ridge_prox_denoiser import RidgeProxDenoiser
from .ridge_regulariser import RidgeRegulariser
from .small_drunet import SmallDRUNet
from .weighted_tv_denoiser import WeightedTVDenoiser

__all__ = [
    "BoundedConvolution",
    "BoundedDnCNN",
    "ComposedFilters",
    "ConvexPotentialDenoiser",
    "ConvexPotentialLayer",
    "LinearSpline",
    "NoiseScaling",
    "RidgeProxDenoiser",
    "RidgeRegulariser",
    "SmallDRUNet",
    "WeightedTVDenoiser",
    "gradient_step_drunet",
    "pretrained_drunet",
]
