"""An image of a measurement that is checked against its physics."""

from __future__ import annotations

from collections.abc import Callable

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

# What an operator raises that is given something else, or that has no adjoint.
_FAILURES = (
    RuntimeError,
    ValueError,
    IndexError,
    TypeError,
    AttributeError,
    AssertionError,
)


def require_linear(physics: LinearPhysics, reason: str = "") -> None:
    r"""
    :param deepinv.physics.LinearPhysics physics: the physics.
    :param str reason: why it must be linear, for the message.
    :raises TypeError: if it is not linear.
    """
    if not isinstance(physics, LinearPhysics):
        why = f": {reason}" if reason else ""
        raise TypeError(
            f"physics must be a deepinv LinearPhysics, as in model(y, physics){why}, "
            f"got {type(physics).__name__}."
        )


def measured_image(
    y: Tensor,
    physics: LinearPhysics,
    reason: str = "",
    image_of: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    r"""
    :math:`A^\top y`, or another image that is computed from a measurement, if it is one
    of the physics: also a measurement that merely broadcasts is none.

    :param torch.Tensor y: the measurement.
    :param deepinv.physics.LinearPhysics physics: its physics.
    :param str reason: why it must be linear, for the message.
    :param image_of: computes the image. Default: ``None``, :math:`A^\top`.
    :return: (:class:`torch.Tensor`) the image.
    :raises TypeError: if the physics is not linear.
    :raises ValueError: if ``y`` is no measurement of this physics.
    """
    require_linear(physics, reason)
    got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
    refusal = f"y of shape {got} is no measurement of this {type(physics).__name__}"
    try:
        image = physics.A_adjoint(y) if image_of is None else image_of(y)
        with torch.no_grad():
            expected = physics.A(image).shape
    except torch.OutOfMemoryError:
        raise
    except _FAILURES as error:
        raise ValueError(f"{refusal}, or its A_adjoint fails: {error}") from error
    # What broadcasts would be fitted to something else, silently.
    if expected != y.shape:
        raise ValueError(
            f"{refusal}: of images {tuple(image.shape)} it measures {tuple(expected)}."
        )
    return image
