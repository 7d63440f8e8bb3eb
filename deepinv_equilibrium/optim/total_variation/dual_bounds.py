"""The duality gap of denoising by weighted total variation."""

from __future__ import annotations

import torch
from torch import Tensor

from .image_differences import differences, differences_adjoint
from .tv_groups import TVNorm, group_norm, project_, radii_and_ratios


@torch.no_grad()
def duality_gap(
    x: Tensor, dual: Tensor, v: Tensor, weight: Tensor, norm: TVNorm
) -> tuple[Tensor, Tensor]:
    r"""
    Gap between the energy of an image and a dual bound of the least energy,

    .. math::

        \begin{aligned}
        P(x) - Q(p) &= \sum_i \left( \bar\lambda_i \|(S D x)_i\|
        - \langle (S D x)_i, p_i \rangle \right)
        + \tfrac12 \|x - v + D^\top S p\|^2, \\
        P(x) &= \tfrac12 \|x - v\|^2 + \|\Lambda D x\|_{2, 1}, \qquad
        Q(p) = \tfrac12 \|v\|^2 - \tfrac12 \|v - D^\top S p\|^2,
        \end{aligned}

    for :math:`\Lambda = \bar\lambda S` and a field of balls
    :math:`\|p_i\| \leq \bar\lambda_i`. No term is negative, and there is no
    cancellation between large numbers. As the energy is 1-strongly convex,

    .. math::

        \tfrac12 \|x - x^*\|^2 \leq P(x) - P(x^*) \leq P(x) - Q(p).

    It is proved up to the rounding of the dtype given: with float64, for any image and
    any field, which is first projected onto the balls.

    :param torch.Tensor x: images of shape :math:`(B, C, N_1, \ldots, N_d)`.
    :param torch.Tensor dual: :math:`p`, of the shape of their differences.
    :param torch.Tensor v: the images to denoise.
    :param torch.Tensor weight: :math:`\Lambda`, with the axes of the differences.
    :param str norm: ``"isotropic"`` or ``"componentwise"``.
    :return: the gap and the energy :math:`P(x)`, each of shape :math:`(B,)`.
    """
    radius, ratio = radii_and_ratios(weight, norm)
    dual = project_(dual.clone(), radius, norm)
    field, pulled = differences(x), dual
    if ratio is not None:
        field, pulled = field * ratio, dual * ratio
    variation = radius * group_norm(field, norm)
    aligned = (field * dual.conj()).real if x.is_complex() else field * dual
    # In float32 a sum of positive and negative rounding errors could be below zero.
    slack = (_total(variation) - _total(aligned)).clamp_min(0)
    mismatch = _half_square(x - v + differences_adjoint(pulled))
    return slack + mismatch, _half_square(x - v) + _total(variation)


def _total(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1).sum(1, dtype=torch.float64)


def _half_square(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x.reshape(len(x), -1), dim=1).double().square() / 2
