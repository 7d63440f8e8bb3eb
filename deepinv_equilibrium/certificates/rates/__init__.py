"""Lipschitz constants of one iteration of each algorithm, as functions of numbers."""

from .data_sensitivity import fixed_point_sensitivity, prox_sensitivity
from .douglas_rachford_rates import (
    douglas_rachford,
    douglas_rachford_reflected,
    douglas_rachford_residual,
    reflection,
)
from .forward_backward_rates import (
    block,
    convex_gradient_descent,
    de_grad,
    gradient_descent,
    gradient_step,
    half_quadratic_splitting,
    proximal_gradient,
    red,
    red_firmly_nonexpansive,
    relaxed,
)

__all__ = [
    "block",
    "convex_gradient_descent",
    "de_grad",
    "douglas_rachford",
    "douglas_rachford_reflected",
    "douglas_rachford_residual",
    "fixed_point_sensitivity",
    "gradient_descent",
    "gradient_step",
    "half_quadratic_splitting",
    "prox_sensitivity",
    "proximal_gradient",
    "red",
    "red_firmly_nonexpansive",
    "reflection",
    "relaxed",
]
