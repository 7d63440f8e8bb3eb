"""Whether a physics has its proximal operator in closed form."""

from __future__ import annotations

from functools import reduce

import torch
from deepinv.physics import (
    DecomposablePhysics,
    Downsampling,
    LinearPhysics,
    NoiseModel,
    Physics,
)
from torch import Tensor

from .parameter_snapshot import parameter_snapshot
from .physics_operator import batch_size, device_of, norm_on_device, randn_like

# Right closed forms of deepinv differ from the exact solution by a few units of
# rounding; wrong ones differ by a large part of it.
_UNITS = 200
_LARGEST_TOLERANCE = 0.1


@torch.no_grad()
def has_closed_prox(physics: Physics, img_size: tuple[int, ...]) -> bool:
    r"""
    Return whether a physics has its proximal operator in closed form, see
    :func:`claims_closed_prox`, and this closed form is right, see :func:`solves_prox`.

    :param deepinv.physics.Physics physics: the physics.
    :param tuple img_size: size of an image without the batch.
    :return: whether both are true, for images in the precision of the physics.
    """
    if not isinstance(physics, LinearPhysics) or not claims_closed_prox(physics):
        return False
    precision = _precision(physics) or torch.float64
    shape = (batch_size(physics), *img_size)
    physics = parameter_snapshot(physics)  # some methods store what they compute
    for dtype in (precision, torch.float32):
        z = torch.zeros(shape, dtype=dtype, device=device_of(physics))
        try:
            y = physics.A(z)
        except Exception:  # noqa: BLE001, a user's operator may raise anything
            continue
        return solves_prox(physics, z, y)
    return False


def claims_closed_prox(physics: LinearPhysics) -> bool:
    r"""
    Return whether ``physics.prox_l2`` is meant to be a closed form: it is the method of
    :class:`deepinv.physics.DecomposablePhysics`, or of
    :class:`deepinv.physics.Downsampling` with circular padding, or the attribute
    ``has_closed_prox`` of the physics is ``True``.

    :param deepinv.physics.LinearPhysics physics: the physics.
    :return: whether it is; ``False`` if ``prox_l2`` was replaced on the instance.
    """
    if "prox_l2" in vars(physics):
        return False
    method = type(physics).prox_l2
    return (
        method is DecomposablePhysics.prox_l2
        or (method is Downsampling.prox_l2 and physics.padding == "circular")
        or getattr(physics, "has_closed_prox", False) is True
    )


@torch.no_grad()
def solves_prox(physics: LinearPhysics, z: Tensor, y: Tensor) -> bool:
    r"""
    Return whether ``prox_l2`` is :math:`(I + \gamma A^\top A)^{-1} (z + \gamma A^\top
    y)`, up to rounding, for one random pair :math:`(z, y)` and a :math:`\gamma` with
    :math:`\gamma \|A z\|^2 = \|z\|^2`.

    The norm of the residual bounds the error, because :math:`I + \gamma A^\top A
    \succeq I`. The closed form of a decomposition is wrong if :math:`V` has fewer
    columns than rows or is not an isometry, for example.

    :param deepinv.physics.LinearPhysics physics: the physics.
    :param torch.Tensor z: a batch of images. Its shape, dtype and device matter, its
        values do not.
    :param torch.Tensor y: a batch of measurements, or a list of them, likewise.
    :return: whether it is. The tolerance is 200 units of rounding of the images or of
        the parameters of the physics, the larger one, where one parameter in float64
        counts for all. ``False`` if a method raises.
    """
    generator = torch.Generator(z.device).manual_seed(0)
    z, y = randn_like(z, generator), randn_like(y, generator)
    precisions = (z.dtype, _precision(physics) or z.dtype)
    eps = max(torch.finfo(dtype).eps for dtype in precisions)
    try:
        image = norm_on_device(physics.A(z))
        gamma = torch.where(image > 0, (norm_on_device(z) / image) ** 2, 1.0)
        gamma = gamma.to(z.dtype.to_real()).reshape([1] * z.ndim)
        x = physics.prox_l2(z, y, gamma)
        pull, push = gamma * physics.A_adjoint_A(x), gamma * physics.A_adjoint(y)
        if x.shape != z.shape:
            return False
        residual = norm_on_device(x + pull - z - push)
        scale = (
            norm_on_device(x)
            + norm_on_device(pull)
            + norm_on_device(z)
            + norm_on_device(push)
        )
        # One number, because each makes the host wait for an accelerator.
        return bool(residual <= min(_UNITS * eps, _LARGEST_TOLERANCE) * scale)
    except Exception:  # noqa: BLE001, a user's method may raise anything
        return False


def _precision(physics: LinearPhysics) -> torch.dtype | None:
    """Return the widest real dtype of the parameters of a physics, ``None`` without
    parameters. Numbers do not count: most of them are exact, and deepinv stores one of
    its own in float32."""
    dtypes = {
        tensor.dtype.to_real()
        for module in physics.modules()
        if not isinstance(module, NoiseModel)
        for tensor in (*module._parameters.values(), *module._buffers.values())
        if tensor is not None
        and tensor.numel() > 1
        and (tensor.is_floating_point() or tensor.is_complex())
    }
    return reduce(torch.promote_types, dtypes) if dtypes else None
