"""The bound of operators that are known to have no negative entry."""

from __future__ import annotations

from deepinv.physics import LinearPhysics

from ..bound import Bound, Interval
from ..collatz_wielandt import collatz_wielandt
from ..linear_operator import LinearOperator
from ..spectrum import NOTHING

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
        :func:`~deepinv_equilibrium.certificates.collatz_wielandt.collatz_wielandt`.
    """
    operator = LinearOperator.of(physics, img_size)
    value = collatz_wielandt(
        operator.gram, operator.shape, operator.device, rounding=rounding
    )
    return Interval(NOTHING, Bound(value, source=source))
