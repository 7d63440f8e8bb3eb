"""Maps from an image to the weight of its total variation."""

from .constant_tv_map import ConstantTVMap as ConstantTVMap
from .positivity import BoundedSigmoid as BoundedSigmoid
from .positivity import Positivity as Positivity
from .positivity import Softplus as Softplus
from .tv_map import TVMap as TVMap
from .unet_tv_map import UNetTVMap as UNetTVMap
