"""deepinv's optimisers at equilibrium."""

from .equilibrium import Equilibrium, ReTune
from .optimizers import ADMM, DRS, FISTA, GD, HQS, MD, PDCP, PGD, PMD

__all__ = [
    "ADMM",
    "DRS",
    "FISTA",
    "GD",
    "HQS",
    "MD",
    "PDCP",
    "PGD",
    "PMD",
    "Equilibrium",
    "ReTune",
]
