"""deepinv's optimisers at equilibrium."""

from .equilibrium import Equilibrium, ReTune
from .gradient_step_pgd import GradientStepPGD
from .kullback_leibler import KullbackLeibler
from .network_prior import NetworkResidualPrior, ScalarNetworkPrior
from .nonnegative_tikhonov import NonNegativeTikhonov
from .nonnegativity import NonNegativity
from .optimizers import ADMM, DRS, FISTA, GD, HQS, MD, PDCP, PGD, PMD
from .poisson_mirror_descent import PoissonMirrorDescent
from .red import RED, GradientConditions
from .ridge_l2 import RidgeL2
from .smooth_prox import smooth_prox, smooth_prox_error
from .total_variation import SmoothedTVPrior, WeightedTVPrior
from .wavelets import WeightedWaveletPrior

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
    "KullbackLeibler",
    "NetworkResidualPrior",
    "NonNegativeTikhonov",
    "NonNegativity",
    "PoissonMirrorDescent",
    "ReTune",
    "RidgeL2",
    "ScalarNetworkPrior",
    "SmoothedTVPrior",
    "WeightedTVPrior",
    "WeightedWaveletPrior",
    "smooth_prox",
    "smooth_prox_error",
]
