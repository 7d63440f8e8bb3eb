"""Data fidelities that deepinv lacks."""

from .kullback_leibler import KullbackLeibler
from .kullback_leibler_distance import KullbackLeiblerDistance
from .ridge_l2 import RidgeL2

__all__ = [
    "KullbackLeibler",
    "KullbackLeiblerDistance",
    "RidgeL2",
]
