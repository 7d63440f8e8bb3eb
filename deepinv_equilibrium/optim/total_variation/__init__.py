"""Weighted total variation: value, proximal operator, and their exact gradients."""

from .denoising import TVDenoising as TVDenoising
from .denoising import solve_denoising as solve_denoising
from .differences import differences as differences
from .differences import differences_adjoint as differences_adjoint
from .differences import differences_norm_squared as differences_norm_squared
from .duality_gap import duality_gap as duality_gap
from .flat_components import connected_components as connected_components
from .groups import TVNorm as TVNorm
from .implicit_gradient import Jumps as Jumps
from .implicit_gradient import PiecewiseConstantStep as PiecewiseConstantStep
from .primal_dual_step import PrimalDualTVStep as PrimalDualTVStep
from .prior import WeightedTVPrior as WeightedTVPrior
from .proximal import weighted_tv_prox as weighted_tv_prox
from .smoothed_prior import SmoothedTVPrior as SmoothedTVPrior
from .weights import as_weight as as_weight
