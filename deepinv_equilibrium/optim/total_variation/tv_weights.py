"""Weights of total variation: one number, or as many as there are differences."""

from __future__ import annotations

import torch
from torch import Tensor


def as_weight(weight: Tensor | float | None, x: Tensor, name: str = "weight") -> Tensor:
    r"""
    Bring a weight into the axes of the differences of an image.

    :param torch.Tensor, float weight: :math:`\Lambda \geq 0`: a number; or a tensor
        without axes, of shape :math:`(B,)` (one a sample), with the axes of ``x`` and
        broadcastable to it (per sample, channel and pixel, the same in all
        directions), or with one axis more, for the directions, and broadcastable to
        :math:`(B, C, d, N_1, \ldots, N_d)`.
    :param torch.Tensor x: images of shape :math:`(B, C, N_1, \ldots, N_d)`.
    :param str name: what to call the weight in an error.
    :return: (:class:`torch.Tensor`) the weight with the axes of :math:`D x`, each as
        long as there or 1, in the precision and on the device of ``x``.
    :raises TypeError: if the weight is missing or complex.
    :raises ValueError: if it is negative or not finite, or does not fit the images.
    """
    if weight is None:
        raise TypeError(
            f"{name} is missing: give a WeightedTVPrior its weight as g_param of the "
            "optimiser, and a WeightedTVDenoiser as sigma_denoiser."
        )
    given = torch.as_tensor(weight, device=x.device)
    if given.is_complex():
        raise TypeError(f"{name} must be real, got {given.dtype}.")
    given = given.to(x.real.dtype)
    if not bool((torch.isfinite(given) & (given >= 0)).all()):
        raise ValueError(
            f"{name} must be nonnegative and finite, got values from "
            f"{given.min().item():.4g} to {given.max().item():.4g}."
        )
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
