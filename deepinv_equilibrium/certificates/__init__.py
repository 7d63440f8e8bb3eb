"""What is proved of a step: operator norms, spectra, contraction rates, errors."""

from . import lipschitz_rules as lipschitz_rules
from . import spectrum_rules as spectrum_rules
from .backward_error import BackwardError as BackwardError
from .backward_error import backward_error as backward_error
from .bound import Bound as Bound
from .bound import Interval as Interval
from .bound import Kind as Kind
from .certificate import Certificate as Certificate
from .certify import certify as certify
from .contraction import Contraction as Contraction
from .contraction import LayerRate as LayerRate
from .contraction import Term as Term
from .convolution_norm import convolution_norm as convolution_norm
from .estimate_rate import estimate_rate as estimate_rate
from .gradient_error import GradientError as GradientError
from .gradient_error import gradient_error as gradient_error
from .iterates import Iterates as Iterates
from .iteration_curve import IterationCurve as IterationCurve
from .iteration_curve import plot_iterations as plot_iterations
from .lanczos import largest_eigenvalue as largest_eigenvalue
from .lipschitz import lipschitz as lipschitz
from .lipschitz_registry import register_lipschitz_rule as register_lipschitz_rule
from .monotone_equation import monotone_stability as monotone_stability
from .monotone_equation import parameter_choice as parameter_choice
from .monotone_equation import source_condition_distance as source_condition_distance
from .monotone_equation import source_condition_error as source_condition_error
from .plan import Plan as Plan
from .plan import plan as plan
from .residual import Residual as Residual
from .smooth_loss import SmoothLoss as SmoothLoss
from .smooth_loss import SquaredError as SquaredError
from .spectrum import spectrum as spectrum
from .spectrum_registry import register_spectrum_rule as register_spectrum_rule
from .step_constants import StepConstants as StepConstants
from .uncertifiable_module_error import (
    UncertifiableModuleError as UncertifiableModuleError,
)
from .uncertifiable_physics_error import AdjointMismatchError as AdjointMismatchError
from .uncertifiable_physics_error import (
    UncertifiablePhysicsError as UncertifiablePhysicsError,
)
from .well_posed import WellPosed as WellPosed
from .well_posedness import WellPosedness as WellPosedness
from .well_posedness import check_well_posed as check_well_posed
from .worst_case import WorstCase as WorstCase
from .worst_case import worst_case as worst_case
