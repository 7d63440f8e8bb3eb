"""Checks of the arguments of models. Each error names the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from deepinv.models import Denoiser
from deepinv.physics import LinearPhysics, Physics
from deepinv.physics.mri import MRIMixin
from deepinv.utils import TensorList
from torch import Tensor, nn

from ..certificates import lipschitz

_IMAGE_DTYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128)
_COUPLING = nn.modules.batchnorm._BatchNorm
_RANDOM = nn.modules.dropout._DropoutNd
# What an operator raises for an input of another size, or without an adjoint.
_FAILURES = (
    RuntimeError,
    ValueError,
    IndexError,
    TypeError,
    AttributeError,
    AssertionError,
)


def require_physics(physics: Any, y: Any = None) -> None:
    r"""
    Raise unless an argument is a physics.

    :param deepinv.physics.Physics physics: the physics.
    :param torch.Tensor y: the measurement of the same call, to detect swapped
        arguments. Default: ``None``.
    :raises TypeError: if ``physics`` is not a :class:`deepinv.physics.Physics`.
    """
    if isinstance(physics, Physics):
        return
    if isinstance(y, Physics):
        raise TypeError(
            f"y is a {type(y).__name__} and physics a {type(physics).__name__}: the "
            "arguments are swapped; call model(y, physics)."
        )
    raise TypeError(
        "physics must be a deepinv Physics, as in model(y, physics), got "
        f"{type(physics).__name__}."
    )


def require_linear(physics: Any, reason: str = "") -> None:
    r"""
    Raise unless an argument is a linear physics.

    :param deepinv.physics.LinearPhysics physics: the physics.
    :param str reason: why the model needs a linear physics, for the message.
    :raises TypeError: if ``physics`` is not a :class:`deepinv.physics.LinearPhysics`.
    """
    if not isinstance(physics, LinearPhysics):
        why = f": {reason}" if reason else ""
        raise TypeError(
            f"physics must be a deepinv LinearPhysics, as in model(y, physics){why}, "
            f"got {type(physics).__name__}."
        )


def require_denoiser(denoiser: Any) -> None:
    r"""
    Raise unless an argument is a denoiser.

    :param deepinv.models.Denoiser denoiser: the denoiser.
    :raises TypeError: if ``denoiser`` is not a :class:`deepinv.models.Denoiser`.
    """
    if isinstance(denoiser, str):
        raise TypeError(
            "denoiser must be an instance of deepinv.models.Denoiser, got the name "
            f"{denoiser!r}; create it with "
            f"deq.plugins.create('denoisers', {denoiser!r})."
        )
    if not isinstance(denoiser, Denoiser):
        raise TypeError(
            "denoiser must be an instance of deepinv.models.Denoiser, got "
            f"{type(denoiser).__name__}."
        )


def require_contractive(denoiser: Denoiser) -> None:
    r"""
    Raise unless a denoiser is proved to be strictly contractive.

    :param deepinv.models.Denoiser denoiser: the denoiser :math:`D`.
    :raises UncertifiableModuleError: if nothing can be proved of the denoiser.
    :raises ValueError: if its Lipschitz constant is not certified or is not below 1.
    """
    bound = lipschitz(denoiser)
    if not (bound.is_certified and bound.value < 1):
        raise ValueError(
            "denoiser must be proved to be strictly contractive, but its Lipschitz "
            f"constant is {bound}. Give a contraction below 1: by name, "
            "contraction=0.99; for a module, e.g. "
            "ConvexPotentialDenoiser(contraction=0.99)."
        )


def require_measurement(y: Any) -> None:
    r"""
    Raise unless a measurement is a floating-point or complex tensor.

    :param torch.Tensor y: the measurement, or a
        :class:`deepinv.utils.TensorList` of measurements.
    :raises TypeError: if ``y`` is not a tensor, or has an integer dtype.
    """
    parts = list(y) if isinstance(y, TensorList) else [y]
    for part in parts:
        if not isinstance(part, Tensor):
            remedy = ""
            if hasattr(part, "__array__"):
                remedy = "; convert it with torch.from_numpy(y).float()"
            got = "None" if part is None else type(part).__name__
            raise TypeError(
                f"y must be a torch.Tensor, as in model(y, physics), got {got}{remedy}."
            )
        if not (part.is_floating_point() or part.is_complex()):
            raise TypeError(
                f"y must have a floating-point dtype, got {part.dtype}; convert it: "
                "y.float() / 255 for images of 8 bits, / 65535 for 16."
            )


def measured_image(
    y: Tensor,
    physics: LinearPhysics,
    reason: str = "",
    image_of: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    r"""
    Compute an image from a measurement, and raise unless the measurement has exactly
    the shape that ``physics.A`` returns.

    :param torch.Tensor y: the measurement :math:`y`.
    :param deepinv.physics.LinearPhysics physics: its physics.
    :param str reason: why the model needs a linear physics, for the message.
    :param Callable image_of: computes the image from ``y``. Default: ``None``,
        ``physics.A_adjoint``.
    :return: (:class:`torch.Tensor`) the image :math:`x`, by default :math:`A^\top y`.
    :raises TypeError: if the physics is not linear.
    :raises ValueError: if :math:`A x` has another shape than ``y``, even if ``y`` could
        be broadcast to this shape, or if the operators of the physics fail.
    """
    require_linear(physics, reason)
    got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
    name = type(physics).__name__
    refusal = f"y of shape {got} is not a measurement of this {name}"
    try:
        image = physics.A_adjoint(y) if image_of is None else image_of(y)
        with torch.no_grad():
            expected = physics.A(image)
    except torch.OutOfMemoryError:
        raise
    except _FAILURES as error:
        raise ValueError(
            f"{refusal}, or its A_adjoint fails: {str(error).rstrip('.')}. "
            f"{_remedy(y, physics)}"
        ) from error
    if _shapes(expected) != _shapes(y):
        raise ValueError(
            f"{refusal}: for images of shape {tuple(image.shape)} physics.A returns "
            f"{_shapes(expected)}. {_other_shape(y, expected, physics)}"
        )
    return image


def _other_shape(y: Any, expected: Any, physics: LinearPhysics) -> str:
    """Return what to do about a measurement of another shape than the physics
    returns."""
    if isinstance(y, Tensor) and isinstance(expected, Tensor):
        if y.ndim == expected.ndim - 1:
            return "Give y the batch axis, which comes first: y[None]."
        channels = y.shape[1:2] != expected.shape[1:2]
        if isinstance(physics, MRIMixin) and channels:
            return (
                "Give the real and the imaginary part as two channels, see "
                "MRI.from_torch_complex."
            )
    return "Give the physics of this measurement."


def _other_mask(y: Tensor, physics: LinearPhysics) -> str:
    """Return a sentence about a mask that does not fit a measurement; empty if it
    does."""
    mask = getattr(physics, "mask", None)
    if not isinstance(mask, Tensor) or mask.ndim < 2 or mask.shape[-2:] == y.shape[-2:]:
        return ""
    return (
        f"The mask of the physics has the shape {tuple(mask.shape)}: give the mask of "
        "this measurement, of its height and width."
    )


def _remedy(y: Any, physics: LinearPhysics) -> str:
    """Return what to do about a measurement that the adjoint of its physics refuses."""
    if isinstance(y, Tensor):
        if y.is_complex() and isinstance(physics, MRIMixin):
            return (
                "Give real and imaginary parts as two channels: "
                "MRI.from_torch_complex(y)."
            )
        kept = {
            b.dtype
            for b in physics.buffers()
            if b.is_floating_point() or b.is_complex()
        }
        if kept and y.real.dtype not in {dtype.to_real() for dtype in kept}:
            dtype = next(iter(kept)).to_real()
            return f"Convert y, which is {y.dtype}, with y.to({dtype})."
        if (other_mask := _other_mask(y, physics)) and y.ndim >= 4:
            return other_mask
        if y.ndim < 4:
            return (
                "Give y the axes that physics.A(x) returns for images x of shape "
                "(B, C, H, W), e.g. with y[None] for one image without a batch axis."
            )
    return "Give y the shape that physics.A(x) returns."


def require_image_axes(image: Tensor, axes: tuple[int, ...] = (2, 3)) -> None:
    r"""
    Raise unless images have a batch axis and a channel axis.

    :param torch.Tensor image: images :math:`x`.
    :param tuple axes: numbers of spatial axes that the model accepts. Default: 2 or 3.
    :raises ValueError: if the images have another number of axes, or no pixel.
    """
    if image.ndim - 2 not in axes or image.numel() == 0:
        raise ValueError(
            "y must be the measurement of a batch of images of shape (B, C, H, W) or "
            f"(B, C, D, H, W), but its images have the shape {tuple(image.shape)}; add "
            "the missing axes, e.g. with y[None] for one image without a batch axis."
        )


def check_images(x: Tensor, in_channels: int) -> None:
    r"""
    Raise unless an argument is a batch of real images with a number of channels.

    :param torch.Tensor x: images of shape :math:`(B, C, H, W)`.
    :param int in_channels: number :math:`C` of channels.
    :raises ValueError: if ``x`` has another shape or is not real.
    """
    if x.ndim != 4 or x.shape[1] != in_channels or not x.is_floating_point():
        raise ValueError(
            f"x must be a real tensor of shape (B, {in_channels}, H, W), got "
            f"{x.dtype} of shape {tuple(x.shape)}."
        )


def check_image(x: Tensor, name: str = "x") -> None:
    r"""
    Raise unless an argument is a batch of images, volumes or time series.

    :param torch.Tensor x: images of shape :math:`(B, C, H, W)`, :math:`(B, C, D, H, W)`
        or :math:`(B, C, T, H, W)`.
    :param str name: name of the argument, for the message.
    :raises TypeError: if ``x`` is not a real or complex tensor in single or double
        precision.
    :raises ValueError: if ``x`` does not have 4 or 5 axes, or is empty.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}.")
    if x.dtype not in _IMAGE_DTYPES:
        raise TypeError(
            f"{name} must be of a floating-point or complex dtype, in single or double "
            f"precision, got {x.dtype}; convert it, e.g. with .float()."
        )
    if x.ndim not in (4, 5) or x.numel() == 0:
        raise ValueError(
            f"{name} must have shape (B, C, H, W), (B, C, D, H, W) or (B, C, T, H, W) "
            f"and at least one pixel, got {tuple(x.shape)}."
        )


def check_samples_apart(model: nn.Module) -> None:
    r"""
    Raise if modules of a model couple the samples of a batch or draw random numbers:
    the step of such a model does not define a fixed point for each sample.

    :param torch.nn.Module model: the model.
    :raises ValueError: if the model contains a BatchNorm that uses batch statistics, or
        an active dropout.
    """
    for name, module in model.named_modules():
        if isinstance(module, _COUPLING):
            if module.training or module.running_mean is None:
                raise ValueError(
                    f"{name} ({type(module).__name__}) uses batch statistics, which "
                    "couple the samples of a batch; put it in eval mode or use another "
                    "normalisation (LayerNorm, GroupNorm)."
                )
        elif isinstance(module, _RANDOM) and module.training and module.p > 0:
            raise ValueError(
                f"{name} ({type(module).__name__}) is random in train mode: a step "
                "that changes at every evaluation has no fixed point; set p=0 or put "
                "it in eval mode."
            )


def _shapes(y: Any) -> Any:
    if isinstance(y, TensorList):
        return [tuple(part.shape) for part in y]
    return tuple(y.shape)
