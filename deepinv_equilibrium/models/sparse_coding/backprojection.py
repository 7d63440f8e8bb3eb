"""The first look at a measurement."""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor


def backprojection(y: Tensor, physics: LinearPhysics) -> Tensor:
    r"""
    :math:`A^\top y` of a measurement that is checked.

    :param torch.Tensor y: the measurement.
    :param deepinv.physics.LinearPhysics physics: its physics.
    :return: (:class:`torch.Tensor`) an image.
    :raises TypeError: if the physics is not linear, or ``y`` is no real tensor.
    :raises ValueError: if ``y`` is not finite, or no measurement of this physics.
    """
    if not isinstance(physics, LinearPhysics):
        raise TypeError(
            "physics must be a deepinv LinearPhysics, as in model(y, physics): "
            "coefficients are fitted by least squares, got "
            f"{type(physics).__name__}."
        )
    if not (isinstance(y, Tensor) and y.is_floating_point()):
        got = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise TypeError(f"y must be a real floating-point tensor, got {got}.")
    if not bool(torch.isfinite(y).all()):
        raise ValueError("y has NaN or infinite values; leave those samples out.")
    refusal = (
        f"y of shape {tuple(y.shape)} is no measurement of this "
        f"{type(physics).__name__}"
    )
    try:
        image = physics.A_adjoint(y)
        with torch.no_grad():
            expected = physics.A(image).shape
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ValueError(f"{refusal}, or its A_adjoint fails: {error}") from error
    # What broadcasts would be fitted to something else, silently.
    if expected != y.shape:
        raise ValueError(
            f"{refusal}: of images {tuple(image.shape)} it measures {tuple(expected)}."
        )
    return image
