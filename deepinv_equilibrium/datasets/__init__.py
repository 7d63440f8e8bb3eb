"""Datasets that need no download."""

from .cine_phantom import CinePhantom
from .ellipses import RandomEllipses
from .photos import Photos
from .seeded_images import SeededImages

__all__ = [
    "CinePhantom",
    "Photos",
    "RandomEllipses",
    "SeededImages",
]
