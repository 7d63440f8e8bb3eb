"""Adaptation of trained reconstructors to another operator."""

from .parametrise_and_perturb import Adaptation, AdaptationStatus, adapt
from .reuse_and_regularise import ReuseAndRegularise

__all__ = [
    "Adaptation",
    "AdaptationStatus",
    "ReuseAndRegularise",
    "adapt",
]
