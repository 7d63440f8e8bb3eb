"""Proved bounds: operator norms, spectra, contraction rates and gradient errors."""

from . import rates
from .bounds import Bound, Interval, Kind
from .certificate import Certificate
from .certification import certify
from .contraction_bounds import Contracting, Contraction, LayerRate, Term
from .convergence import Convergence, Energy
from .declarations import UncertifiableModuleError
from .gradients.gradient_errors import GradientError, gradient_error
from .gradients.planning import Plan, plan
from .gradients.recorded_gradient import FixedPointModel
from .gradients.smooth_loss import SmoothLoss, SquaredError
from .gradients.step_constants import StepConstants
from .lipschitz_bounds.composition_rules import Residual
from .lipschitz_bounds.convolution_norms import convolution_norm
from .lipschitz_bounds.lipschitz_constant import lipschitz, register_lipschitz_rule
from .rates.monotone_equation import (
    monotone_stability,
    parameter_choice,
    source_condition_distance,
    source_condition_error,
)
from .spectra.lanczos import largest_eigenvalue
from .spectra.physics_operator import AdjointMismatchError, UncertifiablePhysicsError
from .spectra.physics_spectrum import register_spectrum_rule, spectrum

__all__ = [
    "AdjointMismatchError",
    "Bound",
    "Certificate",
    "Contracting",
    "Contraction",
    "Convergence",
    "Energy",
    "FixedPointModel",
    "GradientError",
    "Interval",
    "Kind",
    "LayerRate",
    "Plan",
    "Residual",
    "SmoothLoss",
    "SquaredError",
    "StepConstants",
    "Term",
    "UncertifiableModuleError",
    "UncertifiablePhysicsError",
    "certify",
    "convolution_norm",
    "gradient_error",
    "largest_eigenvalue",
    "lipschitz",
    "monotone_stability",
    "parameter_choice",
    "plan",
    "rates",
    "register_lipschitz_rule",
    "register_spectrum_rule",
    "source_condition_distance",
    "source_condition_error",
    "spectrum",
]
