"""Losses and metrics for deepinv's Trainer."""

from .jacobian_regularisation import JacobianRegularisation
from .solution_metrics import Converged, FinalResidual, ObservedRate

__all__ = [
    "Converged",
    "FinalResidual",
    "JacobianRegularisation",
    "ObservedRate",
]
