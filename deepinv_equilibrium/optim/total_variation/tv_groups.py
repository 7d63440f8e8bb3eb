"""The weights of total variation, and the groups of differences that it measures."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from ...fixed_points.constant_weights import weights_scope

TVNorm: TypeAlias = Literal["isotropic", "componentwise"]
TV_NORMS: tuple[TVNorm, ...] = ("isotropic", "componentwise")

_ADMITTED = WeakIdKeyDictionary()
"""The versions of the tensors whose values were found to be weights."""


def check_norm(norm: str) -> None:
    """Raise ValueError for an unknown norm."""
    if norm not in TV_NORMS:
        raise ValueError(f"norm must be one of {TV_NORMS}, got {norm!r}.")


def as_weight(weight: Tensor | float | None, x: Tensor, name: str = "weight") -> Tensor:
    r"""
    Return a weight with the axes of the differences of an image.

    :param torch.Tensor, float weight: :math:`\Lambda \geq 0`, in one of four forms:

        - a number, or a tensor without axes;
        - shape :math:`(B,)`, one number a sample;
        - broadcastable to ``x`` with as many axes, the same weight in all directions;
        - broadcastable to :math:`(B, C, d, N_1, \ldots, N_d)` with as many axes, one
          weight for each direction.
    :param torch.Tensor x: images of shape :math:`(B, C, N_1, \ldots, N_d)`.
    :param str name: name of the weight in errors.
    :return: (:class:`torch.Tensor`) the weight, in the precision and on the device of
        ``x``. Each axis has length 1 or the length of that axis of :math:`D x`.
    :raises TypeError: if the weight is missing or complex.
    :raises ValueError: if it is negative or not finite, or does not fit the images.
    """
    if weight is None:
        raise TypeError(
            f"{name} is missing: give a WeightedTVPrior its weight as g_param of the "
            "optimiser, and a WeightedTVDenoiser as sigma_denoiser."
        )
    # A number must not be rounded to torch's default dtype.
    dtype = weight.dtype if isinstance(weight, Tensor) else x.real.dtype
    given = torch.as_tensor(weight, dtype=dtype, device=x.device)
    if given.is_complex():
        raise TypeError(f"{name} must be real, got {given.dtype}.")
    given = given.to(x.real.dtype)
    _require_nonnegative(weight, given, name)
    if given.ndim == 0:
        return given.reshape([1] * (x.ndim + 1))
    field = (*x.shape[:2], x.ndim - 2, *x.shape[2:])
    if given.ndim == 1:
        shaped = given.reshape(-1, *[1] * x.ndim)
    elif given.ndim == x.ndim:
        shaped = given.unsqueeze(2)
    else:
        shaped = given
    if shaped.ndim != len(field) or any(
        got not in (1, full) for got, full in zip(shaped.shape, field, strict=True)
    ):
        raise ValueError(
            f"{name} must be a number, or have shape ({len(x)},), or be broadcastable "
            f"to the images {tuple(x.shape)} or to their differences {field}, with as "
            f"many axes, got shape {tuple(given.shape)}."
        )
    return shaped


def _require_nonnegative(weight: Tensor | float, given: Tensor, name: str) -> None:
    """Raise unless a weight, also ``given`` as a tensor, is nonnegative and finite.
    Each look at values makes the host wait for an accelerator: a tensor is looked at
    once, and within a solve, where the model computes the weight, not at all there."""
    if given.device.type != "cpu" and weights_scope() is not None:
        return
    version = None
    if isinstance(weight, Tensor) and not weight.is_inference():
        version = weight._version
        if _ADMITTED.get(weight) == version:
            return
    if not bool((torch.isfinite(given) & (given >= 0)).all()):
        raise ValueError(
            f"{name} must be nonnegative and finite, got values from "
            f"{given.min().item():.4g} to {given.max().item():.4g}."
        )
    if version is not None:
        _ADMITTED[weight] = version


def group_norm(field: Tensor, norm: TVNorm) -> Tensor:
    r"""
    Return the norm of each group of a field. A group is all directions at a pixel
    (isotropic), or one direction at a pixel (componentwise).

    :param torch.Tensor field: shape :math:`(B, C, d, N_1, \ldots, N_d)`, real or
        complex.
    :param str norm: ``"isotropic"`` or ``"componentwise"``.
    :return: (:class:`torch.Tensor`) the norms, real; the axis of directions has length
        1 or :math:`d`. The gradient of a norm that is 0 is 0.
    """
    if norm == "componentwise":
        return field.abs()
    # A sum over the strided axis of directions would be slower by a factor of 200.
    square = _square(field[:, :, 0])
    for d in range(1, field.shape[2]):
        square = square + _square(field[:, :, d])
    if square.requires_grad:
        moves = square > 0
        root = torch.where(moves, square, 1.0).sqrt()
        return torch.where(moves, root, 0.0).unsqueeze(2)
    return square.sqrt().unsqueeze(2)


def _square(x: Tensor) -> Tensor:
    return x.real.square() + x.imag.square() if x.is_complex() else x * x


def radii_and_ratios(weight: Tensor, norm: TVNorm) -> tuple[Tensor, Tensor | None]:
    r"""
    Factorise a weight as :math:`\Lambda = \bar\lambda S`, with one radius
    :math:`\bar\lambda` for each group and ratios :math:`S \in [0, 1]`.

    Then :math:`\|\Lambda D x\|_{2, 1}` is the support function of balls of radius
    :math:`\bar\lambda` at :math:`S D x`, and :math:`\|S D\| \leq \|D\|` for every
    weight. The step sizes of a solver therefore do not depend on the weight.

    :param torch.Tensor weight: the weight, with the axes of the differences.
    :param str norm: ``"isotropic"`` or ``"componentwise"``.
    :return: the radii, and the ratios; ``None`` if all ratios are 1.
    """
    if norm == "componentwise" or weight.shape[2] == 1:
        return weight, None
    radius = weight.amax(dim=2, keepdim=True)
    ratio = weight / radius.clamp_min(torch.finfo(weight.dtype).tiny)
    return radius, torch.where(radius > 0, ratio, 1.0)


def project_(field: Tensor, radius: Tensor, norm: TVNorm) -> Tensor:
    r"""
    Project each group of a field onto the ball of its radius, in place.

    :param torch.Tensor field: the field.
    :param torch.Tensor radius: radii of the groups, nonnegative.
    :param str norm: ``"isotropic"`` or ``"componentwise"``.
    :return: ``field``.
    """
    if norm == "componentwise" and not field.is_complex():
        torch.minimum(field, radius, out=field)
        return torch.maximum(field, -radius, out=field)
    return field.mul_(shrinkage(group_norm(field, norm), radius))


def project(field: Tensor, radius: Tensor, norm: TVNorm) -> Tensor:
    r"""
    Project each group of a field onto the ball of its radius, with derivatives in the
    field and in the radius.

    :param torch.Tensor field: the field.
    :param torch.Tensor radius: radii of the groups, nonnegative.
    :param str norm: ``"isotropic"`` or ``"componentwise"``.
    :return: (:class:`torch.Tensor`) the projected field.
    """
    if norm == "componentwise" and not field.is_complex():
        return torch.maximum(torch.minimum(field, radius), -radius)
    return field * shrinkage(group_norm(field, norm), radius)


def shrinkage(size: Tensor, radius: Tensor) -> Tensor:
    r"""Return the factor :math:`\min(1, r / \|p\|)` that projects a group; 0 if the
    radius and the norm are both 0."""
    tiny = torch.finfo(size.dtype).tiny
    return radius / torch.maximum(size, radius).clamp_min(tiny)
