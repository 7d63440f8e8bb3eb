"""Constants of one iteration of each algorithm, as functions of numbers."""

from .averaged_operators import (
    averaged_composition,
    averaged_gradient_step,
    averaged_relaxation,
)
from .data_sensitivity import fixed_point_sensitivity, prox_sensitivity
from .douglas_rachford_rates import (
    douglas_rachford,
    douglas_rachford_reflected,
    douglas_rachford_residual,
    reflection,
)
from .energy_decrease import (
    block_decrease,
    decrease,
    value_after_steps,
    value_of_residual,
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
from .proximal_constants import prox_lipschitz, prox_reflected, prox_residual

__all__ = [
    "averaged_composition",
    "averaged_gradient_step",
    "averaged_relaxation",
    "block",
    "block_decrease",
    "convex_gradient_descent",
    "de_grad",
    "decrease",
    "douglas_rachford",
    "douglas_rachford_reflected",
    "douglas_rachford_residual",
    "fixed_point_sensitivity",
    "gradient_descent",
    "gradient_step",
    "half_quadratic_splitting",
    "prox_lipschitz",
    "prox_reflected",
    "prox_residual",
    "prox_sensitivity",
    "proximal_gradient",
    "red",
    "red_firmly_nonexpansive",
    "reflection",
    "relaxed",
    "value_after_steps",
    "value_of_residual",
]
