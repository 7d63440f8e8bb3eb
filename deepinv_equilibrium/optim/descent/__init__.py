"""Models that descend on an energy by steps whose decrease is checked."""

from .descent_report import Descent
from .gradient_step_pgd import GradientStepPGD
from .poisson_mirror_descent import PoissonMirrorDescent

__all__ = [
    "Descent",
    "GradientStepPGD",
    "PoissonMirrorDescent",
]
