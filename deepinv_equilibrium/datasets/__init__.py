"""Datasets that need no download."""

from .cine_phantom import CinePhantom as CinePhantom
from .photos import Photos as Photos
from .random_ellipses import RandomEllipses as RandomEllipses
from .seeded_images import SeededImages as SeededImages
