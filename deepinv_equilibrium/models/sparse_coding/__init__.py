"""Sparse coding: ISTA, learned ISTA and the frames that they use."""

from .convolutional_lista import ConvolutionalLISTA
from .frames import ConvolutionalFrame, DenseFrame, Frame
from .ista import ISTA
from .ista_step import ISTAStep, NonnegativeISTAStep
from .lista import LISTA

__all__ = [
    "ISTA",
    "LISTA",
    "ConvolutionalFrame",
    "ConvolutionalLISTA",
    "DenseFrame",
    "Frame",
    "ISTAStep",
    "NonnegativeISTAStep",
]
