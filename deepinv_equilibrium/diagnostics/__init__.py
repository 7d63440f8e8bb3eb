"""What is observed or estimated about a trained model; lower bounds are proved."""

from .backward_errors import BackwardError, backward_error
from .iteration_curves import (
    Iterates,
    IterationCurve,
    iteration_curve,
    plot_iterations,
)
from .lipschitz_lower_bounds import Stretch, stretch
from .local_rate import estimate_rate
from .perturbations import WorstCase, worst_case
from .well_posedness import WellPosed, WellPosedness, check_well_posed

__all__ = [
    "BackwardError",
    "Iterates",
    "IterationCurve",
    "Stretch",
    "WellPosed",
    "WellPosedness",
    "WorstCase",
    "backward_error",
    "check_well_posed",
    "estimate_rate",
    "iteration_curve",
    "plot_iterations",
    "stretch",
    "worst_case",
]
