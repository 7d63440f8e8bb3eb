"""Solvers of fixed-point equations and of linear systems."""

from .anderson import Anderson
from .broyden import Broyden
from .cg import CG
from .cgne import CGNE
from .fixed_point_solver import FixedPointSolver
from .gmres import GMRES
from .linear_solver import LinearOperator, LinearSolver
from .picard import Picard, Restarts
from .safeguarded import Safeguarded
from .solver import Solver

__all__ = [
    "CG",
    "CGNE",
    "GMRES",
    "Anderson",
    "Broyden",
    "FixedPointSolver",
    "LinearOperator",
    "LinearSolver",
    "Picard",
    "Restarts",
    "Safeguarded",
    "Solver",
]
