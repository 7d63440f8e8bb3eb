"""Denoisers and reconstructors."""

from .adaptation.parametrise_and_perturb import Adaptation, AdaptationStatus, adapt
from .adaptation.reuse_and_regularise import ReuseAndRegularise
from .denoisers.bounded_convolution import BoundedConvolution
from .denoisers.bounded_dncnn import BoundedDnCNN
from .denoisers.composed_filters import ComposedFilters
from .denoisers.convex_potential_denoiser import ConvexPotentialDenoiser
from .denoisers.convex_potential_layer import ConvexPotentialLayer
from .denoisers.linear_spline import LinearSpline
from .denoisers.noise_scaling import NoiseScaling
from .denoisers.pretrained_denoisers import gradient_step_drunet, pretrained_drunet
from .denoisers.ridge_prox_denoiser import RidgeProxDenoiser
from .denoisers.ridge_regulariser import RidgeRegulariser
from .denoisers.small_drunet import SmallDRUNet
from .denoisers.weighted_tv_denoiser import WeightedTVDenoiser
from .equilibrium_regularisation import EquilibriumRegularisation
from .sparse_coding.convolutional_lista import ConvolutionalLISTA
from .sparse_coding.frames import ConvolutionalFrame, DenseFrame, Frame
from .sparse_coding.ista import ISTA
from .sparse_coding.lista import LISTA
from .tikhonov_inverse import TikhonovInverse
from .tomography.fbp_unet import FBPUNet
from .tomography.learned_gradient_descent import LearnedGradientDescent
from .tomography.learned_pdhg import LearnedPDHG
from .tomography.learned_primal_dual import LearnedPrimalDual
from .tv_maps.positivity import BoundedSigmoid, Positivity, Softplus
from .tv_maps.tv_map import ConstantTVMap, TVMap
from .tv_maps.tv_map_reconstructor import TVMapReconstructor
from .tv_maps.tv_step_sizes import TVStepSizes
from .tv_maps.unet_tv_map import UNetTVMap
from .wavelet_reconstructor import WaveletReconstructor

__all__ = [
    "ISTA",
    "LISTA",
    "Adaptation",
    "AdaptationStatus",
    "BoundedConvolution",
    "BoundedDnCNN",
    "BoundedSigmoid",
    "ComposedFilters",
    "ConstantTVMap",
    "ConvexPotentialDenoiser",
    "ConvexPotentialLayer",
    "ConvolutionalFrame",
    "ConvolutionalLISTA",
    "DenseFrame",
    "EquilibriumRegularisation",
    "FBPUNet",
    "Frame",
    "LearnedGradientDescent",
    "LearnedPDHG",
    "LearnedPrimalDual",
    "LinearSpline",
    "NoiseScaling",
    "Positivity",
    "ReuseAndRegularise",
    "RidgeProxDenoiser",
    "RidgeRegulariser",
    "SmallDRUNet",
    "Softplus",
    "TVMap",
    "TVMapReconstructor",
    "TVStepSizes",
    "TikhonovInverse",
    "UNetTVMap",
    "WaveletReconstructor",
    "WeightedTVDenoiser",
    "adapt",
    "gradient_step_drunet",
    "pretrained_drunet",
]
