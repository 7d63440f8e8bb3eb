"""Upper bounds of the spectra of operators with nonnegative entries."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from deepinv.physics import LinearPhysics, Tomography
from torch import Tensor

from ..bounds import Bound, Interval, outward
from .physics_operator import PhysicsOperator
from .physics_spectrum import NOTHING, register_spectrum_rule

MAX_PRODUCTS = 100
TIGHTNESS = 1e-3
PATIENCE = 20
FLOOR = 1e-4


def collatz_wielandt(
    gram: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    device: torch.device,
    *,
    rounding: float = 0.0,
) -> float:
    r"""
    Return an upper bound of the largest eigenvalue of a symmetric matrix :math:`G` with
    nonnegative entries. For every :math:`v > 0`

    .. math::

        \lambda_{\max}(G) \leq \max_i (Gv)_i / v_i

    :footcite:p:`collatz1942einschliessungssatz,wielandt1950unzerlegbare`, because
    :math:`D^{-1} G D` with :math:`D = \operatorname{diag}(v)` has the eigenvalues of
    :math:`G`, and the right side is its norm in the maximum norm.

    The vector is computed by the power iteration :math:`v \leftarrow Gv + c 1` from
    :math:`v = 1`. The constant :math:`c` keeps it positive where :math:`G` vanishes.
    Because of the start, the bound never exceeds Schur's bound
    :math:`\|A\|_1\|A\|_\infty` for :math:`G = A^\top A`. A fixed direction of the
    iteration satisfies :math:`Gv = \mu v - c1 < \mu v`. The iteration stops when the
    bound is within a thousandth of a Rayleigh quotient, or when the last 20 products
    lowered the bound by less than a thousandth.

    The caller must know that :math:`G` has no negative entry; the function does not
    check it.

    :param Callable gram: :math:`G`, on float64 tensors.
    :param tuple shape: shape of the argument, ``(B, C, ...)``.
    :param torch.device device: device of the argument.
    :param float rounding: bound of the absolute error of an entry of :math:`Gv`,
        relative to the largest entry of :math:`v` in its channel, in addition to a
        relative error of 1e-12. It is 0 for sums of nonnegative terms and positive for
        products by Fourier transform. Default: 0.
    :return: the bound, with rounding included.
    """
    spatial = tuple(range(2, len(shape)))

    def peaks(x: Tensor) -> Tensor:
        return x.amax(dim=spatial, keepdim=True) if spatial else x

    v = torch.ones(shape, dtype=torch.float64, device=device)
    best, history = math.inf, list[float]()
    for _ in range(MAX_PRODUCTS):
        image = gram(v).clamp(min=0)
        ratio = float(((image + rounding * peaks(v)) / v).max())
        best = min(best, ratio)
        history.append(best)
        rayleigh = float((v * image).sum() / v.square().sum())
        if best <= (1 + TIGHTNESS) * rayleigh:
            break
        if best >= (1 - TIGHTNESS) * min(history[:-PATIENCE], default=math.inf):
            break
        v = image + FLOOR * peaks(image)
        v = v / v.max()
        # Entries where G vanishes, or in channels far below the largest one.
        v = v.clamp(min=1e-200)
    return outward(best, relative=1e-11)


SOURCE = "Collatz-Wielandt quotient"


def nonnegative(
    physics: LinearPhysics,
    img_size: tuple[int, ...],
    *,
    source: str = SOURCE,
    rounding: float = 0.0,
) -> Interval:
    r"""
    Return the interval from 0 to the Collatz-Wielandt bound.

    :param deepinv.physics.LinearPhysics physics: a physics in double precision, with a
        nonnegative operator and its transpose.
    :param tuple img_size: size of an image without the batch.
    :param str source: source of the bound.
    :param float rounding: the argument ``rounding`` of ``collatz_wielandt``. Default:
        0.
    :return: the interval.
    """
    operator = PhysicsOperator.of(physics, img_size)
    value = collatz_wielandt(
        operator.gram, operator.shape, operator.device, rounding=rounding
    )
    return Interval(NOTHING, Bound(value, source=source))


@register_spectrum_rule(Tomography)
def tomography(physics: Tomography, img_size: tuple[int, ...]) -> Interval | None:
    """Bound tomography with an exact adjoint: sums of bilinear interpolations with
    nonnegative weights, divided by a norm."""
    return nonnegative(physics, img_size) if is_nonnegative(physics) else None


def is_nonnegative(physics: Tomography) -> bool:
    """Return whether tomography has an exact adjoint and is divided by a positive
    norm."""
    exact = physics.adjoint_via_backprop or physics.fan_beam
    return bool(exact and not (physics.normalize and physics.operator_norm <= 0))
