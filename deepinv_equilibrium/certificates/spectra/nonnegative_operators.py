"""Upper bound of the spectrum of a nonnegative operator."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from deepinv.physics import LinearPhysics, Tomography
from torch import Tensor

from ..bounds import Bound, Interval, outward
from .physics_operator import LinearOperator
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
    Upper bound of the largest eigenvalue of a symmetric matrix :math:`G` with
    nonnegative entries: for every :math:`v > 0`,

    .. math::

        \lambda_{\max}(G) \leq \max_i (Gv)_i / v_i

    :footcite:p:`collatz1942einschliessungssatz,wielandt1950unzerlegbare`. For
    :math:`D^{-1} G D` with :math:`D = \operatorname{diag}(v)` has the eigenvalues of
    :math:`G`, and the right side is its norm for the maximum norm. The vector comes
    from the power iteration :math:`v \leftarrow Gv + c 1` started at ones, so that it
    stays positive where :math:`G` sees nothing; started at ones, the bound is never
    above that of Schur, :math:`\|A\|_1\|A\|_\infty` for :math:`G = A^\top A`, and if
    :math:`v` is a fixed direction of the iteration, :math:`Gv = \mu v - c1 < \mu v`.
    It ends when the bound is within a thousandth of a Rayleigh quotient, or was
    lowered by less than that in the last 20 products.

    That :math:`G` has no negative entry must be known: it is not checked.

    :param Callable gram: :math:`G`, on float64 tensors.
    :param tuple shape: shape of its argument, ``(B, C, ...)``.
    :param torch.device device: where it wants its argument.
    :param float rounding: bound of the absolute error of an entry of :math:`Gv`,
        relative to the largest entry of :math:`v` in its channel, beyond a relative
        error of 1e-12 of the entry: 0 for sums of nonnegative terms, but not for
        products by Fourier transform.
    :return: the bound, moved outward by the rounding.
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
        # What is not seen at all, and what a much larger channel has outgrown.
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
    From 0 to the Collatz-Wielandt bound.

    :param deepinv.physics.LinearPhysics physics: the physics, in double precision, with
        an operator that is known to be nonnegative, and its transpose.
    :param tuple img_size: size of an image.
    :param str source: what the bound is called.
    :param float rounding: as in
        :func:`~deepinv_equilibrium.certificates.spectra.nonnegative_operators.collatz_wielandt`.
    """
    operator = LinearOperator.of(physics, img_size)
    value = collatz_wielandt(
        operator.gram, operator.shape, operator.device, rounding=rounding
    )
    return Interval(NOTHING, Bound(value, source=source))


@register_spectrum_rule(Tomography)
def tomography(physics: Tomography, img_size: tuple[int, ...]) -> Interval | None:
    """Sums of bilinear interpolations, whose weights are nonnegative, over a norm."""
    if not (physics.adjoint_via_backprop or physics.fan_beam):
        return None
    if physics.normalize and not float(physics.operator_norm) > 0:
        return None
    return nonnegative(physics, img_size)
