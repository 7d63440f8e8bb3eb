"""Denoisers and reconstructors."""

from .pretrained_drunet import pretrained_drunet as pretrained_drunet
from .small_drunet import SmallDRUNet as SmallDRUNet
