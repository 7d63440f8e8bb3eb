"""Models whose output is a fixed point: their base class and their configuration."""

from .configuration import Equilibrium, ReTune
from .equilibrium_model import EquilibriumModel
from .unrollable_model import UnrollableModel

__all__ = ["Equilibrium", "EquilibriumModel", "ReTune", "UnrollableModel"]
