"""Spectra of physics. Importing this package registers the rules of the operators."""

from . import blur_rules, combination_rules, decomposition_rules, nonnegative_operators

__all__ = [
    "blur_rules",
    "combination_rules",
    "decomposition_rules",
    "nonnegative_operators",
]
