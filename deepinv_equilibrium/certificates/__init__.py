"""What is proved of a step: operator norms, spectra, contraction rates, errors."""

from .bound import Bound as Bound
from .bound import Interval as Interval
from .bound import Kind as Kind
from .convolution_norm import convolution_norm as convolution_norm
