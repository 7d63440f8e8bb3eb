"""Priors that deepinv lacks."""

from .channelwise import ChannelwisePrior
from .network_prior import NetworkResidualPrior, ScalarNetworkPrior
from .nonnegativity import NonNegativeTikhonov, NonNegativity
from .red import RED, GradientConditions
from .smooth_proximal import smooth_prox, smooth_prox_error

__all__ = [
    "RED",
    "ChannelwisePrior",
    "GradientConditions",
    "NetworkResidualPrior",
    "NonNegativeTikhonov",
    "NonNegativity",
    "ScalarNetworkPrior",
    "smooth_prox",
    "smooth_prox_error",
]
