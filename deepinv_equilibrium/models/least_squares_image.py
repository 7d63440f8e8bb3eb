"""Least-squares images of measurements by conjugate gradients."""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from ..equilibrium.input_checks import check_image, measured_image

# Relative rounding error of a residual in units of the machine precision: a transform
# sums many numbers.
ROUNDING = 64


def map_input(y: Tensor, physics: LinearPhysics, iterations: int) -> Tensor:
    r"""
    Check a measurement and return its :func:`conjugate_gradient_image`.

    :param torch.Tensor y: the measurement.
    :param deepinv.physics.LinearPhysics physics: its physics.
    :param int iterations: number of iterations of conjugate gradients.
    :return: (:class:`torch.Tensor`) an image, a volume or a time series.
    :raises TypeError: if the physics is not linear.
    :raises ValueError: if ``y`` is not a finite measurement of ``physics``, or its
        images do not have two or three spatial axes.
    """
    z = measured_image(
        y,
        physics,
        "total variation is fitted by least squares",
        lambda y: conjugate_gradient_image(physics, y, iterations),
    )
    check_image(z, "the adjoint of the measurement")
    finite = torch.isfinite(z).reshape(len(z), -1).all(dim=1)
    if not bool(finite.all()):
        samples = (~finite).nonzero().flatten().tolist()
        raise ValueError(
            f"y has NaN or infinite values, or its adjoint does, in samples {samples}; "
            "leave them out."
        )
    return z


def conjugate_gradient_image(
    physics: LinearPhysics, y: Tensor, iterations: int, rtol: float = 0.0
) -> Tensor:
    r"""
    Make a few iterations of conjugate gradients for :math:`A^\top A z = A^\top y` from
    :math:`z = 0`, as in :footcite:t:`kofler2023learning`. Early stopping regularises
    the image. A sample that has converged is not changed any more.

    Unlike :class:`deepinv_equilibrium.CG`, the iterations are recorded for gradients in
    ``y`` and in the parameters of the physics.

    :param deepinv.physics.LinearPhysics physics: the physics.
    :param torch.Tensor y: the measurement.
    :param int iterations: number of iterations; with 0 the result is :math:`A^\top y`.
    :param float rtol: a sample has converged if the norm of its residual is at most
        this fraction of :math:`\|A^\top y\|`. Default: 0, the rounding error of the
        operator.
    :return: (:class:`torch.Tensor`) the image :math:`z`.
    """
    r = physics.A_adjoint(y)
    if iterations == 0:
        return r
    z, p = torch.zeros_like(r), r
    square = _square(r)
    start = square.detach()
    # A residual below the rounding error of the operator may lie in the null space of
    # A, and dividing by its curvature is not meaningful.
    floor = start * max(rtol, ROUNDING * torch.finfo(start.dtype).eps) ** 2
    for _ in range(iterations):
        if rtol > 0 and bool((square <= floor).all()):
            break
        product = physics.A_adjoint_A(p)
        curvature = _inner(p, product)
        moves = (square > floor) & (curvature > 0)
        length = torch.where(moves, square / torch.where(moves, curvature, 1.0), 0.0)
        z, r = z + length * p, r - length * product
        previous, square = square, _square(r)
        ratio = square / torch.where(moves, previous, 1.0)
        p = r + torch.where(moves, ratio, 0.0) * p
    return z


def _inner(a: Tensor, b: Tensor) -> Tensor:
    product = (a * b.conj()).real if a.is_complex() else a * b
    return product.sum(dim=tuple(range(1, a.ndim)), keepdim=True)


def _square(a: Tensor) -> Tensor:
    return _inner(a, a)
