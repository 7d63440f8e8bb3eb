"""Operators and noise models that deepinv lacks."""

from deepinv_equilibrium.physics.birdcage_coil_maps import birdcage_coil_maps
from deepinv_equilibrium.physics.channelwise_blur import ChannelwiseBlur
from deepinv_equilibrium.physics.channelwise_gaussian_noise import (
    ChannelwiseGaussianNoise,
)
from deepinv_equilibrium.physics.directional_kernels import directional_kernels
from deepinv_equilibrium.physics.dynamic_mri import dynamic_mri
from deepinv_equilibrium.physics.dynamic_multi_coil_mri import DynamicMultiCoilMRI

__all__ = [
    "ChannelwiseBlur",
    "ChannelwiseGaussianNoise",
    "DynamicMultiCoilMRI",
    "birdcage_coil_maps",
    "directional_kernels",
    "dynamic_mri",
]
