"""The image from which a TV map is estimated."""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from ..equilibrium.input_checks import check_image, measured_image

# Of a residual, in units of that of one number: sums of many, as in a transform.
ROUNDING = 64


def map_input(y: Tensor, physics: LinearPhysics, iterations: int) -> Tensor:
    r"""
    :func:`conjugate_gradient_image` of a measurement that is checked.

    :param torch.Tensor y: the measurement.
    :param deepinv.physics.LinearPhysics physics: its physics.
    :param int iterations: of conjugate gradients.
    :return: (:class:`torch.Tensor`) an image, a volume or a time series.
    :raises TypeError: if the physics is not linear.
    :raises ValueError: if the measurement is none of this physics, or its images have
        not two or three spatial axes.
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
    A few iterations of conjugate gradients for :math:`A^\top A z = A^\top y` from
    :math:`z = 0`, as in :footcite:t:`kofler2023learning`: stopped early, they
    regularise. A sample that is solved stays as it is.

    In contrast to :class:`deepinv_equilibrium.CG` the iterations are recorded, where
    gradients reach ``y`` or the physics.

    :param deepinv.physics.LinearPhysics physics: the physics.
    :param torch.Tensor y: the measurement.
    :param int iterations: how many; with 0 the result is :math:`A^\top y`.
    :param float rtol: a sample is solved where its residual is this fraction of
        :math:`A^\top y`. Default: 0, to the rounding of the operator.
    :return: (:class:`torch.Tensor`) the image :math:`z`.
    """
    r = physics.A_adjoint(y)
    if iterations == 0:
        return r
    z, p = torch.zeros_like(r), r
    square = _square(r)
    start = square.detach()
    # Below the rounding of the operator nothing is left to divide by: what remains may
    # lie in its null space.
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
