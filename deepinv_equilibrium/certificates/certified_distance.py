"""The proved distance of an image from the fixed point of a model."""

from __future__ import annotations

import copy
from typing import Any

import torch
from deepinv.physics import Physics
from deepinv.utils import TensorList
from torch import Tensor

from .bounds import Bound, derived, outward
from .gradients.gradient_terms import residual_norms
from .gradients.recorded_gradient import image_problem
from .gradients.step_jacobians import sample_norms
from .spectra.double_precision import double_copy


@torch.no_grad()
def certified_distance(
    rate: Bound,
    model: Any,
    y: Any,
    physics: Physics,
    x: Tensor,
    near: Tensor | None = None,
) -> tuple[Bound, ...]:
    r"""
    Bound the distance of images from the fixed points :math:`x^\star` of a model,

    .. math::

        \|x - x^\star\| \leq \|x - z\| + \frac{\|T(z) - z\|}{1 - \rho}

    with an image :math:`z` near the fixed point, by default :math:`x` itself.

    The step :math:`T` is evaluated in float64, with copies of the model and the
    physics, so that the rounding of a model in float32 is not part of the residual.

    :param Bound rate: :math:`\rho < 1`, in the norm of the images.
    :param torch.nn.Module model: the model, whose state is the image.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param torch.Tensor x: the images, of shape :math:`(B, C, H, W)`.
    :param torch.Tensor near: :math:`z`, of the same shape. Default: ``None``.
    :return: one bound for each image.
    :raises TypeError: if ``x`` or ``near`` is not a tensor.
    :raises ValueError: if ``x`` or ``near`` is not finite or does not have the shape of
        the reconstruction.
    """
    # The report of the last solve may hold tensors with a graph, which have no copy.
    memo = {id(model.solution): None} if hasattr(model, "solution") else {}
    double_model = copy.deepcopy(model, memo).double()
    step, start = image_problem(double_model, _double(y), double_copy(physics))
    images = _checked("x", x, start)
    points = images if near is None else _checked("near", near, start)
    value = step(points)
    assert isinstance(value, Tensor)
    residuals = residual_norms(points, value) / (1 - rate.value)
    away = sample_norms(images - points)
    bounds = (residuals + away).tolist()
    source = "residual over 1 - rate"
    if near is not None:
        source += " of an image near it, plus the distance from this image"
    return tuple(derived(outward(value), (rate,), source) for value in bounds)


def _checked(name: str, x: Any, start: Tensor) -> Tensor:
    """Return images in the precision of the step, or raise."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor of images, got {type(x).__name__}.")
    if x.shape != start.shape:
        raise ValueError(
            f"{name} must have the shape {tuple(start.shape)} of the reconstruction, "
            f"got {tuple(x.shape)}."
        )
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"{name} must be finite, got images with NaN or infinity.")
    return x.detach().to(start)


def _double(y: Any) -> Any:
    if isinstance(y, TensorList):
        return TensorList([_double(part) for part in y.x])
    return y.to(torch.complex128 if y.is_complex() else torch.float64)
