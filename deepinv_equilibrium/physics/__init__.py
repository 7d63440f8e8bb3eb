"""Operators and noise models that deepinv lacks."""

from deepinv_equilibrium.physics.channelwise_blur import ChannelwiseBlur
from deepinv_equilibrium.physics.channelwise_gaussian_noise import (
    ChannelwiseGaussianNoise,
)
from deepinv_equilibrium.physics.directional_kernels import directional_kernels

__all__ = ["ChannelwiseBlur", "ChannelwiseGaussianNoise", "directional_kernels"]
