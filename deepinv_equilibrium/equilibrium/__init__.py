"""Base classes and configurations of models whose output is a fixed point."""

from .configuration import Equilibrium, ReTune
from .equilibrium_model import EquilibriumModel
from .fixed_iterations import FixedIterations
from .fixed_point_cache import FixedPointCache
from .unrollable_model import UnrollableModel

__all__ = [
    "Equilibrium",
    "EquilibriumModel",
    "FixedIterations",
    "FixedPointCache",
    "ReTune",
    "UnrollableModel",
]
