"""Models that decrease an energy by steps with backtracking."""

from .descent_report import Descent
from .gradient_step_pgd import GradientStepPGD
from .poisson_mirror_descent import PoissonMirrorDescent

__all__ = [
    "Descent",
    "GradientStepPGD",
    "PoissonMirrorDescent",
]
