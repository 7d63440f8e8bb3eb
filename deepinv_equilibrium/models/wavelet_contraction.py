"""What is known of the contraction of iterations on wavelet coefficients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from deepinv.physics import LinearPhysics

from ..certificates import Bound, rates, spectrum
from ..certificates.bound import derived, outward
from ..certificates.contraction import Contraction, LayerRate, Term
from ..optim.wavelets import CoefficientScaling


def wavelet_contraction(
    physics: LinearPhysics,
    img_size: Sequence[int],
    scaling: CoefficientScaling,
    stepsize: float | Literal["optimal"],
    layers: int,
) -> Contraction:
    r"""
    Contraction and stability of
    :class:`~deepinv_equilibrium.models.WaveletReconstructor`.

    With :math:`\lambda I \leq A^\top A \leq \Lambda I` its data fidelity has the
    curvature :math:`\mu = \lambda / \max(\rho)^2` to :math:`L = \Lambda /
    \min(\rho)^2` in the scaled coefficients, as :math:`D` is orthonormal, and a step
    the rate :math:`\max(|1 - \tau\mu|, |1 - \tau L|)`. The minimisers satisfy
    :math:`\|x^\star(y_1) - x^\star(y_2)\| \leq \|y_1 - y_2\| / \sqrt\lambda`, as
    :math:`A x^\star` is a proximal operator of the measurement.

    :param deepinv.physics.LinearPhysics physics: the physics.
    :param Sequence img_size: size of the images, without the batch.
    :param CoefficientScaling scaling: the scaling :math:`\rho`, in double precision.
    :param float, str stepsize: the rule of the step size.
    :param int layers: iterations in a block.
    :return: (Contraction) the rate of the block, 1 where :math:`\lambda = 0`.
    :raises ValueError: if ``stepsize="optimal"`` and :math:`\lambda = 0`.
    """
    ends = spectrum(physics, img_size)
    lower, upper = ends.lower, ends.upper
    tau = scaling.step_size(stepsize, lower.value, upper.value)
    # The rounding of the weights' quotients is far less than that of the spectrum.
    mu = lower.value * scaling.smallest * (1 - 1e-12)
    L = outward(upper.value * scaling.largest)
    step = derived(
        rates.gradient_step(mu, L, tau), (lower, upper), "max |1 - tau {mu, L}|"
    )
    smallest = Bound(mu, lower.kind, f"mu {lower} / max(rho)^2", is_lower=True)
    terms = (
        Term("smallest curvature in the coefficients", "mu", smallest),
        Term("largest curvature in the coefficients", "L", derived(L, (upper,), "")),
        Term("step size", "tau", Bound(tau), exact=True),
    )
    gain = math.sqrt(upper.value * scaling.largest) * tau
    sensitivity = derived(outward(gain), (upper,), "tau ||A|| / min(rho)")
    layer = LayerRate(step, sensitivity, terms)
    rate = derived(
        rates.block([step.value] * layers), (step,), f"{layers} times {step.source}"
    )
    stability = Bound(
        outward(1 / math.sqrt(lower.value)) if lower.value > 0 else math.inf,
        lower.kind,
        f"1 / sqrt(mu), mu {lower}",
    )
    return Contraction(
        rate if layers > 1 else step,
        norm="l2 norm of the scaled wavelet coefficients u",
        layers=(layer,) * layers,
        stability=stability,
        notes=(
            "The rate is that of the step in exact arithmetic.",
            "The stability is that of the exact minimiser in the image.",
        ),
    )
