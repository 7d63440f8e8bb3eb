"""Spectra of physics. Importing this package registers the rules of the operators."""

from . import (
    blur_rules,
    combination_rules,
    decomposition_rules,
    matrix_rules,
    nonnegative_operators,
)
from .lanczos import lanczos_factor, largest_eigenvalue
from .operator_norm import OperatorNorm
from .physics_spectrum import register_spectrum_rule, spectrum

__all__ = [
    "OperatorNorm",
    "blur_rules",
    "combination_rules",
    "decomposition_rules",
    "lanczos_factor",
    "largest_eigenvalue",
    "matrix_rules",
    "nonnegative_operators",
    "register_spectrum_rule",
    "spectrum",
]
