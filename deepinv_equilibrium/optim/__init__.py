"""deepinv's optimisers at equilibrium."""

from .equilibrium import Equilibrium, ReTune
from .gradient_step_pgd import GradientStepPGD
from .nonnegative_tikhonov import NonNegativeTikhonov
from .nonnegativity import NonNegativity
from .optimizers import ADMM, DRS, FISTA, GD, HQS, MD, PDCP, PGD, PMD
from .red import RED, GradientConditions
from .ridge_l2 import RidgeL2
from .smooth_prox import smooth_prox, smooth_prox_error
from .total_variation import SmoothedTVPrior, WeightedTVPrior

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
    "RED",
    "Equilibrium",
    "GradientConditions",
    "GradientStepPGD",
    "NonNegativeTikhonov",
    "NonNegativity",
    "ReTune",
    "RidgeL2",
    "SmoothedTVPrior",
    "WeightedTVPrior",
    "smooth_prox",
    "smooth_prox_error",
]
