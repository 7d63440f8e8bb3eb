"""Finite differences of images, volumes and time series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def differences(x: Tensor) -> Tensor:
    r"""
    Return the forward differences along every spatial axis,

    .. math::

        (D x)_{b, c, d, p} = \begin{cases} x_{b, c, p + e_d} - x_{b, c, p} &
        p_d < N_d - 1, \\ 0 & \text{at the last entry of the axis}. \end{cases}

    :param torch.Tensor x: images of shape :math:`(B, C, N_1, \ldots, N_d)`, real or
        complex.
    :return: (:class:`torch.Tensor`) the differences, of shape
        :math:`(B, C, d, N_1, \ldots, N_d)`.
    """
    return _Differences.apply(x)


def differences_adjoint(p: Tensor) -> Tensor:
    r"""
    Apply the adjoint :math:`D^\top` of :func:`differences`, the negative divergence.

    :param torch.Tensor p: a field of shape :math:`(B, C, d, N_1, \ldots, N_d)`.
    :return: (:class:`torch.Tensor`) :math:`D^\top p`, of shape
        :math:`(B, C, N_1, \ldots, N_d)`.
    """
    return _DifferencesAdjoint.apply(p)


def differences_norm_squared(spatial: Sequence[int]) -> float:
    r"""
    Return the squared norm of the differences,

    .. math::

        \|D\|^2 = \sum_d 4 \cos^2\left(\frac{\pi}{2 N_d}\right).

    The value is exact: :math:`D^\top D` is a sum over the axes of Laplacians with
    Neumann borders, which share their eigenvectors, cosines. An axis of one pixel adds
    nothing.

    :param Sequence spatial: :math:`(N_1, \ldots, N_d)`.
    :return: (float) :math:`\|D\|^2`, rounded upwards.
    """
    # 1 + cos has no cancellation, and is exactly 0 for a single pixel.
    total = sum(2 + 2 * math.cos(math.pi / n) if n > 1 else 0.0 for n in spatial)
    return total * (1 + 4 * len(spatial) * 2.0**-52)


def differences_into(x: Tensor, out: Tensor) -> Tensor:
    r"""
    Write :func:`differences` into a tensor.

    :param torch.Tensor x: images.
    :param torch.Tensor out: the tensor, zero at the last entry of every axis.
    :return: ``out``.
    """
    for d, n in enumerate(x.shape[2:]):
        torch.sub(
            x.narrow(2 + d, 1, n - 1),
            x.narrow(2 + d, 0, n - 1),
            out=out[:, :, d].narrow(2 + d, 0, n - 1),
        )
    return out


def differences_adjoint_into(p: Tensor, out: Tensor) -> Tensor:
    r"""
    Write :func:`differences_adjoint` into a tensor.

    :param torch.Tensor p: a field, zero at the last entry of every axis.
    :param torch.Tensor out: the tensor.
    :return: ``out``.
    """
    torch.neg(p[:, :, 0], out=out)
    for d in range(1, p.shape[2]):
        out.sub_(p[:, :, d])
    for d, n in enumerate(out.shape[2:]):
        inner = p[:, :, d].narrow(2 + d, 0, n - 1)
        out.narrow(2 + d, 1, n - 1).add_(inner)
    return out


class _Differences(torch.autograd.Function):
    """Differences; the backward is the adjoint and needs no saved tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        shape = (*x.shape[:2], x.ndim - 2, *x.shape[2:])
        return differences_into(x, x.new_zeros(shape))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return differences_adjoint(grads[0])


class _DifferencesAdjoint(torch.autograd.Function):
    """The adjoint; the backward is the differences and needs no saved tensor."""

    @staticmethod
    def forward(ctx: Any, p: Tensor) -> Tensor:
        out = torch.zeros_like(p[:, :, 0])
        for d, n in enumerate(out.shape[2:]):
            inner = p[:, :, d].narrow(2 + d, 0, n - 1)
            out.narrow(2 + d, 0, n - 1).sub_(inner)
            out.narrow(2 + d, 1, n - 1).add_(inner)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return differences(grads[0])
