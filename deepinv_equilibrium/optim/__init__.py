"""deepinv's optimisers at equilibrium, priors and data fidelities."""

from ..equilibrium.configuration import Equilibrium, ReTune
from .algorithm_state import AlgorithmState
from .condat_vu import CondatVu
from .data_fidelities.kullback_leibler import KullbackLeibler
from .data_fidelities.ridge_l2 import RidgeL2
from .descent.gradient_step_pgd import GradientStepPGD
from .descent.poisson_mirror_descent import PoissonMirrorDescent
from .equilibrium_optim import EquilibriumOptim
from .optimizers import ADMM, DRS, FISTA, GD, HQS, MD, PDCP, PGD, PMD
from .priors.channelwise import ChannelwisePrior
from .priors.network_prior import NetworkResidualPrior, ScalarNetworkPrior
from .priors.nonnegativity import NonNegativeTikhonov, NonNegativity
from .priors.red import RED, GradientConditions
from .priors.smooth_proximal import smooth_prox, smooth_prox_error
from .total_variation.smoothed_tv_prior import SmoothedTVPrior
from .total_variation.tv_prior import WeightedTVPrior
from .wavelets.wavelet_prior import WeightedWaveletPrior

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
    "AlgorithmState",
    "ChannelwisePrior",
    "CondatVu",
    "Equilibrium",
    "EquilibriumOptim",
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
