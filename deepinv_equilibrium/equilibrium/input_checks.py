"""An image of a measurement that is checked against its physics."""

from __future__ import annotations

from collections.abc import Callable

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

_DTYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128)
_COUPLING = nn.modules.batchnorm._BatchNorm
_RANDOM = nn.modules.dropout._DropoutNd


def check_samples_apart(model: nn.Module) -> None:
    r"""
    Refuse modules that couple the samples of a batch or draw at random.

    :param torch.nn.Module model: the model about to run.
    :raises ValueError: if it has BatchNorm that uses batch statistics, or dropout that
        is on: such a step has no fixed point of its own.
    """
    for name, module in model.named_modules():
        if not isinstance(module, (_COUPLING, _RANDOM)):
            continue
        if isinstance(module, _COUPLING):
            if module.training or module.running_mean is None:
                raise ValueError(
                    f"{name} ({type(module).__name__}) uses batch statistics, which "
                    "couple the samples, so that no sample has an equilibrium of its "
                    "own; put it in eval mode or use another normalisation (LayerNorm, "
                    "GroupNorm)."
                )
        elif module.training and module.p > 0:
            raise ValueError(
                f"{name} ({type(module).__name__}) is random in train mode: a step "
                "that changes at every evaluation has no fixed point; set p=0 or put "
                "it in eval mode."
            )


def check_images(x: Tensor, in_channels: int) -> None:
    r"""
    :param torch.Tensor x: images of shape :math:`(B, C, H, W)`.
    :param int in_channels: :math:`C`.
    :raises ValueError: if ``x`` is no batch of real images with so many channels.
    """
    if x.ndim != 4 or x.shape[1] != in_channels or not x.is_floating_point():
        raise ValueError(
            f"x must be a real tensor of shape (B, {in_channels}, H, W), got "
            f"{x.dtype} of shape {tuple(x.shape)}."
        )


def check_image(x: Tensor, name: str = "x") -> None:
    r"""
    Refuse what is no batch of images, volumes or time series.

    :param torch.Tensor x: what should be one.
    :param str name: what to call it in the error.
    :raises TypeError: if it is no real or complex tensor in single or double precision.
    :raises ValueError: if it has not two or three spatial axes, or is empty.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}.")
    if x.dtype not in _DTYPES:
        raise TypeError(
            f"{name} must be of a floating-point or complex dtype, in single or double "
            f"precision, got {x.dtype}; convert it, e.g. with .float()."
        )
    if x.ndim not in (4, 5) or x.numel() == 0:
        raise ValueError(
            f"{name} must have shape (B, C, H, W), (B, C, D, H, W) or (B, C, T, H, W) "
            f"and at least one pixel, got {tuple(x.shape)}."
        )


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
