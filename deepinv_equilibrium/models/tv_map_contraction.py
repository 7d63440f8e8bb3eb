"""What is known of the contraction of total variation with a map."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deepinv.physics import LinearPhysics

from ..certificates import Bound, spectrum
from ..certificates.bound import outward
from ..certificates.contraction import Contraction


def tv_map_contraction(
    physics: LinearPhysics, img_size: Sequence[int], constant_map: bool, budget: bool
) -> Contraction:
    r"""
    Contraction and stability of :math:`\min_x \tfrac12 \|A x - y\|^2 +
    \|\Lambda D x\|`, solved by primal-dual iterations.

    These are averaged for every weight, and converge; but the dual of a minimiser is
    not unique, so that they do not contract, and no rate is claimed. With a weight that
    does not depend on the measurement, and run to a tolerance and not for a number of
    iterations, whose result depends on where they start, the minimisers are stable,

    .. math::

        \|x^\star(y_1) - x^\star(y_2)\| \leq \frac{1}{\sqrt\mu} \|y_1 - y_2\|, \qquad
        A^\top A \geq \mu I,

    as :math:`A x^\star` is a proximal operator of the measurement, which does not
    expand.

    :param deepinv.physics.LinearPhysics physics: the physics.
    :param Sequence img_size: size of the images, without the batch.
    :param bool constant_map: whether the weight does not depend on the measurement.
    :param bool budget: whether a fixed number of iterations is made.
    :return: (Contraction) an infinite rate, with the reason, and the stability.
    """
    if budget:
        stability = Bound(
            math.inf, source="a number of iterations, which need not reach a minimiser"
        )
    elif constant_map:
        mu = spectrum(physics, img_size).lower
        stability = Bound(
            outward(1 / math.sqrt(mu.value)) if mu.value > 0 else math.inf,
            mu.kind,
            f"1 / sqrt(mu), mu {mu}",
        )
    else:
        stability = Bound(math.inf, source="the map depends on the measurement")
    return Contraction(
        Bound(
            math.inf,
            source="the dual of total variation is not unique: the iterations are "
            "averaged and converge, but do not contract",
        ),
        norm="that of image and dual with the weights 1/tau and 1/sigma",
        stability=stability,
        in_state=False,
        notes=(
            "The step sizes keep tau |A|^2 < 2 and sigma tau |D|^2 < 1.",
            "A stability is that of the exact minimiser, which is reached up to the "
            "tolerance of the solver.",
        ),
    )
