"""Models whose output is a fixed point: their base class and their configuration."""

from .configuration import Equilibrium, ReTune

__all__ = [
    "Equilibrium",
    "ReTune",
]
