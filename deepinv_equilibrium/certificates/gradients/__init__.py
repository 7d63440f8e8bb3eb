"""Bounds of the errors of the gradients that adjoints compute."""

from .gradient_bounds import (
    jacobian_free_error,
    retune_error,
    retune_squared_error,
    trajectory_error,
)
from .gradient_errors import GradientError, gradient_error
from .planning import Plan, plan
from .recorded_gradient import FixedPointModel
from .smooth_loss import SmoothLoss, SquaredError
from .state_jacobian import StateJacobian
from .step_constants import StepConstants

__all__ = [
    "FixedPointModel",
    "GradientError",
    "Plan",
    "SmoothLoss",
    "SquaredError",
    "StateJacobian",
    "StepConstants",
    "gradient_error",
    "jacobian_free_error",
    "plan",
    "retune_error",
    "retune_squared_error",
    "trajectory_error",
]
