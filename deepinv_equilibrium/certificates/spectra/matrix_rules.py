"""Spectra of physics that multiply by a small stored matrix."""

from __future__ import annotations

import torch
from deepinv.physics import (
    CompressedSensing,
    HyperSpectralUnmixing,
    SinglePixelCamera,
)
from torch import Tensor

from ..bounds import Interval
from .decomposition_rules import MASK, exact, is_isometry
from .physics_operator import PhysicsOperator
from .physics_spectrum import register_spectrum_rule

SINGULAR_VALUE = "squared singular value of the matrix"
_LARGEST_SIDE = 4096
# LAPACK's error of a singular value, relative to the largest one, is a modest multiple
# of the unit roundoff and of the size of the matrix.
_ROUNDING = 20 * torch.finfo(torch.float64).eps


def matrix_spectrum(*matrices: Tensor) -> Interval | None:
    r"""
    Return the interval from the smallest to the largest eigenvalue of :math:`M^\top M`
    over some matrices :math:`M`.

    :param torch.Tensor matrices: real matrices in float64 with the same number of
        columns, which is the number of unknowns.
    :return: the interval; ``None`` if a matrix is complex or has more than 4096 rows
        and columns, for which a decomposition costs too much.
    """
    if any(M.is_complex() or min(M.shape) > _LARGEST_SIDE for M in matrices):
        return None
    squares, errors = [], []
    for M in matrices:
        values = torch.linalg.svdvals(M)
        error = _ROUNDING * sum(M.shape) * values.max()
        if M.shape[0] < M.shape[1]:  # some images are mapped to 0
            values = torch.cat([values, values.new_zeros(1)])
        squares.append(values.square())
        errors.append(error * (2 * values + error))
    return exact(torch.cat(squares), SINGULAR_VALUE, rounding=torch.cat(errors))


@register_spectrum_rule(CompressedSensing)
def compressed_sensing(
    physics: CompressedSensing, img_size: tuple[int, ...]
) -> Interval | None:
    """Bound compressed sensing by the singular values of its matrix, which acts on the
    image or on each channel."""
    return matrix_spectrum(physics._A)


@register_spectrum_rule(HyperSpectralUnmixing)
def unmixing(
    physics: HyperSpectralUnmixing, img_size: tuple[int, ...]
) -> Interval | None:
    """Bound unmixing by the singular values of the matrix of endmembers, which acts on
    each pixel."""
    return matrix_spectrum(physics.M.mT)


@register_spectrum_rule(SinglePixelCamera)
def single_pixel(
    physics: SinglePixelCamera, img_size: tuple[int, ...]
) -> Interval | None:
    r"""
    Bound the single-pixel camera :math:`A = U \operatorname{diag}(s) V^\top`. If it is
    fast, :math:`V` is a Hadamard transform and the eigenvalues are :math:`s^2`.
    Otherwise :math:`U` and :math:`V` are stored and were rounded; the interval holds
    for the product of the three matrices and for :math:`V \operatorname{diag}(s^2)
    V^\top`.
    """
    if physics.fast:
        if not is_isometry(PhysicsOperator.of(physics, img_size)):
            return None
        return exact(physics.mask.square(), MASK)
    right = physics.mask.reshape(-1, 1) * physics.vh
    return matrix_spectrum(right, physics.u @ right)
