"""Total variation with weights that are learned or estimated by a network."""

from .positivity import BoundedSigmoid, Positivity, Softplus
from .tv_map import ConstantTVMap, TVMap
from .tv_map_reconstructor import TVMapReconstructor
from .tv_step_sizes import TVStepSizes
from .unet_tv_map import UNetTVMap

__all__ = [
    "BoundedSigmoid",
    "ConstantTVMap",
    "Positivity",
    "Softplus",
    "TVMap",
    "TVMapReconstructor",
    "TVStepSizes",
    "UNetTVMap",
]
