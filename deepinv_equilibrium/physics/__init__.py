"""Operators and noise models that deepinv does not have."""

from .blur_kernels import directional_kernels
from .channelwise_blur import ChannelwiseBlur
from .channelwise_gaussian_noise import ChannelwiseGaussianNoise
from .cine_mri import dynamic_mri
from .coil_maps import birdcage_coil_maps
from .dynamic_multi_coil_mri import DynamicMultiCoilMRI
from .mask_families import any_mask

__all__ = [
    "ChannelwiseBlur",
    "ChannelwiseGaussianNoise",
    "DynamicMultiCoilMRI",
    "any_mask",
    "birdcage_coil_maps",
    "directional_kernels",
    "dynamic_mri",
]
