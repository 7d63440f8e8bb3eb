"""The spectrum rules of deepinv's physics; importing registers."""

from . import combination as combination
from . import convolution as convolution
from . import decomposition as decomposition
from . import downsampling as downsampling
from . import mri as mri
from . import tomography as tomography
