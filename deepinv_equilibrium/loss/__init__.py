"""Losses and metrics for deepinv's Trainer."""

from .jacobian_regularisation import JacobianRegularisation
from .observed_rate import ObservedRate

__all__ = [
    "JacobianRegularisation",
    "ObservedRate",
]
