"""Learned reconstructions for tomography and other linear problems."""

from .fbp_unet import FBPUNet
from .learned_gradient_descent import LearnedGradientDescent
from .learned_pdhg import LearnedPDHG
from .learned_primal_dual import LearnedPrimalDual

__all__ = [
    "FBPUNet",
    "LearnedGradientDescent",
    "LearnedPDHG",
    "LearnedPrimalDual",
]
