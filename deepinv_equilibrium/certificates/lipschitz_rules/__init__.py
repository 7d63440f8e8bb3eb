"""The Lipschitz rules of torch's layers and of deepinv's DnCNN; importing registers."""

from . import activation as activation
from . import adaptive_pooling as adaptive_pooling
from . import convolution as convolution
from . import dncnn as dncnn
from . import dropout as dropout
from . import linear as linear
from . import normalization as normalization
from . import padding as padding
from . import pooling as pooling
from . import reshaping as reshaping
from . import sequential as sequential
from . import upsampling as upsampling
