"""Datasets that need no download, and one that numbers the samples of another."""

from .cine_phantom import CinePhantom
from .ellipses import RandomEllipses
from .indexed_dataset import IndexedDataset
from .photos import Photos
from .seeded_images import SeededImages

__all__ = [
    "CinePhantom",
    "IndexedDataset",
    "Photos",
    "RandomEllipses",
    "SeededImages",
]
