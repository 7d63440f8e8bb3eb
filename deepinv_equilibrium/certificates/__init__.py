"""What is proved of a step: operator norms, spectra, contraction rates, errors."""

from . import lipschitz_rules as lipschitz_rules
from .bound import Bound as Bound
from .bound import Interval as Interval
from .bound import Kind as Kind
from .convolution_norm import convolution_norm as convolution_norm
from .lanczos import largest_eigenvalue as largest_eigenvalue
from .lipschitz import lipschitz as lipschitz
from .lipschitz_registry import register_lipschitz_rule as register_lipschitz_rule
from .residual import Residual as Residual
from .uncertifiable_module import UncertifiableModule as UncertifiableModule
