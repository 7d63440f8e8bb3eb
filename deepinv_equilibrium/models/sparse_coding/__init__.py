"""Sparse synthesis: images from few coefficients in a frame, iterated and learned."""

from .convolutional_lista import ConvolutionalLISTA
from .frames import ConvolutionalFrame, DenseFrame, Frame
from .ista import ISTA
from .ista_step import ISTAStep
from .lista import LISTA

__all__ = [
    "ISTA",
    "LISTA",
    "ConvolutionalFrame",
    "ConvolutionalLISTA",
    "DenseFrame",
    "Frame",
    "ISTAStep",
]
