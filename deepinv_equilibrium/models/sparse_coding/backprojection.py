"""The first look at a measurement."""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from ..measured_image import measured_image, require_linear

_REASON = "coefficients are fitted by least squares"


def backprojection(y: Tensor, physics: LinearPhysics) -> Tensor:
    r"""
    :math:`A^\top y` of a measurement that is checked.

    :param torch.Tensor y: the measurement.
    :param deepinv.physics.LinearPhysics physics: its physics.
    :return: (:class:`torch.Tensor`) an image.
    :raises TypeError: if the physics is not linear, or ``y`` is no real tensor.
    :raises ValueError: if ``y`` is not finite, or no measurement of this physics.
    """
    require_linear(physics, _REASON)
    if not (isinstance(y, Tensor) and y.is_floating_point()):
        got = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise TypeError(f"y must be a real floating-point tensor, got {got}.")
    if not bool(torch.isfinite(y).all()):
        raise ValueError("y has NaN or infinite values; leave those samples out.")
    return measured_image(y, physics, _REASON)
