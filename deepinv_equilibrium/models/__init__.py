"""Denoisers and reconstructors."""

from .adapt import adapt as adapt
from .adaptation import Adaptation as Adaptation
from .adaptation import AdaptationStatus as AdaptationStatus
from .bounded_convolution import BoundedConvolution as BoundedConvolution
from .bounded_dncnn import BoundedDnCNN as BoundedDnCNN
from .convex_potential_denoiser import (
    ConvexPotentialDenoiser as ConvexPotentialDenoiser,
)
from .convex_potential_layer import ConvexPotentialLayer as ConvexPotentialLayer
from .equilibrium_regularisation import (
    EquilibriumRegularisation as EquilibriumRegularisation,
)
from .fbp_unet import FBPUNet as FBPUNet
from .gradient_step_drunet import gradient_step_drunet as gradient_step_drunet
from .learned_gradient_descent import (
    LearnedGradientDescent as LearnedGradientDescent,
)
from .learned_pdhg import LearnedPDHG as LearnedPDHG
from .learned_primal_dual import LearnedPrimalDual as LearnedPrimalDual
from .pretrained_drunet import pretrained_drunet as pretrained_drunet
from .reuse_and_regularise import ReuseAndRegularise as ReuseAndRegularise
from .ridge_prox_denoiser import RidgeProxDenoiser as RidgeProxDenoiser
from .ridge_regulariser import RidgeRegulariser as RidgeRegulariser
from .small_drunet import SmallDRUNet as SmallDRUNet
from .sparse_coding import ISTA as ISTA
from .sparse_coding import LISTA as LISTA
from .sparse_coding import ConvolutionalFrame as ConvolutionalFrame
from .sparse_coding import ConvolutionalLISTA as ConvolutionalLISTA
from .sparse_coding import DenseFrame as DenseFrame
from .sparse_coding import Frame as Frame
from .tikhonov_inverse import TikhonovInverse as TikhonovInverse
from .tv_map_reconstructor import TVMapReconstructor as TVMapReconstructor
from .tv_maps import BoundedSigmoid as BoundedSigmoid
from .tv_maps import ConstantTVMap as ConstantTVMap
from .tv_maps import Positivity as Positivity
from .tv_maps import Softplus as Softplus
from .tv_maps import TVMap as TVMap
from .tv_maps import UNetTVMap as UNetTVMap
from .tv_step_sizes import TVStepSizes as TVStepSizes
from .wavelet_reconstructor import WaveletReconstructor as WaveletReconstructor
from .weighted_tv_denoiser import WeightedTVDenoiser as WeightedTVDenoiser
