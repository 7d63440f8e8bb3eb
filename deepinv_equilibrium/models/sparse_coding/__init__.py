"""Sparse synthesis: images from few coefficients in a frame, iterated and learned."""

from .convolutional_frame import ConvolutionalFrame as ConvolutionalFrame
from .convolutional_lista import ConvolutionalLISTA as ConvolutionalLISTA
from .dense_frame import DenseFrame as DenseFrame
from .frame import Frame as Frame
from .ista import ISTA as ISTA
from .ista_step import ISTAStep as ISTAStep
from .lista import LISTA as LISTA
