"""Adjoints: how a fixed point gets its gradient."""

from .adjoint import Adjoint
from .implicit import Implicit
from .jacobian_free import JacobianFree
from .neumann import Neumann
from .shine import SHINE
from .unrolled import Unrolled

__all__ = [
    "SHINE",
    "Adjoint",
    "Implicit",
    "JacobianFree",
    "Neumann",
    "Unrolled",
]
