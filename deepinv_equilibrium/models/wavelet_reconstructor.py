"""Reconstruction with a weighted wavelet norm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from deepinv.physics import LinearPhysics
from torch import Tensor

from ..certificates import Bound, Contraction, LayerRate, Term, rates, spectrum
from ..certificates.bounds import derived, outward
from ..certificates.declarations import refuse_changed
from ..certificates.spectra.operator_norm import OperatorNorm
from ..equilibrium import Equilibrium, EquilibriumModel
from ..equilibrium.input_checks import require_linear
from ..fixed_points import State
from ..optim.wavelets.coefficient_scaling import CoefficientScaling
from ..optim.wavelets.forward_backward_step import WaveletForwardBackwardStep
from ..optim.wavelets.wavelet_prior import WeightedWaveletPrior
from .least_squares_image import map_input


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


class WaveletReconstructor(EquilibriumModel):
    r"""
    The image with a weighted wavelet norm, for any linear physics and real images,

    .. math::

        \hat x = \operatorname*{arg\,min}_x \tfrac12 \|A x - y\|^2 + \|\theta D
        x\|_{1,2},

    equation (43) of :footcite:t:`davy2025restarted`, where :math:`A = I` in Section 4.1
    and is general in 4.2, by forward-backward iterations in the scaled coefficients
    :math:`u = \theta D x`, equation (51):
    :class:`~deepinv_equilibrium.optim.wavelets.WaveletForwardBackwardStep`. The weights
    :math:`\theta` are learned. In images, and so with fewer iterations where
    :math:`A \neq I`, the same is solved by ``deq.optim.PGD`` with the prior; for
    :math:`A = I` its proximal operator is the solution.

    :math:`L = \|A\|^2 / \min(\theta)^2` and :math:`\mu` with
    :math:`\lambda_{\min}(A^\top A) / \max(\theta)^2` are those of the data fidelity in
    :math:`u`. The step sizes of the paper are :math:`1.95/L` and :math:`2/(\mu + L)`,
    the fastest. They follow the weights, but no gradient goes through them: it
    vanishes at the solution. ``normalised`` divides the weights of each scale by their
    minimum first, see
    :class:`~deepinv_equilibrium.optim.wavelets.CoefficientScaling`. (The paper shows a
    "normalized step variant" which it does not define; this is a reading of it.)

    :param WeightedWaveletPrior prior: the prior, with :math:`\theta`.
    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: the solver
        and its gradient; ``ReTune(K, 1)`` is :math:`K` unrolled iterations. Default:
        ``None``, ``Equilibrium()``.
    :param float, str stepsize: :math:`\tau L` in (0, 2), or ``"optimal"`` for
        :math:`\tau = 2/(\mu + L)`, which takes :math:`\mu > 0`.
    :param bool normalised: whether the weights of each scale are normalised.
    :param bool show_progress_bar: whether to show a progress bar during the iterations.
    :raises TypeError: if ``prior`` or ``DEQ`` is none.
    :raises ValueError: if ``stepsize`` is out of its range.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> model = deq.models.WaveletReconstructor(
    ...     deq.optim.WeightedWaveletPrior(channels=3),
    ...     DEQ=deq.ReTune(layers=10, restarts=10),
    ... )
    >>> physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    >>> model(physics(torch.rand(2, 3, 32, 33)), physics).shape
    torch.Size([2, 3, 32, 33])
    """

    def __init__(
        self,
        prior: WeightedWaveletPrior,
        DEQ: Equilibrium | None = None,
        stepsize: float | Literal["optimal"] = 1.95,
        normalised: bool = False,
        show_progress_bar: bool = False,
    ) -> None:
        super().__init__(DEQ, show_progress_bar)
        if not isinstance(prior, WeightedWaveletPrior):
            raise TypeError(
                "prior must be a WeightedWaveletPrior, such as "
                f"WeightedWaveletPrior(channels=3), got {type(prior).__name__}."
            )
        is_number = isinstance(stepsize, int | float) and 0 < stepsize < 2
        if not (is_number or stepsize == "optimal"):
            raise ValueError(
                "stepsize is tau times the Lipschitz constant of the data fidelity, "
                f"and must be between 0 and 2, or 'optimal', got {stepsize!r}."
            )
        self.prior = prior
        self.stepsize, self.normalised = stepsize, normalised
        self._norm = OperatorNorm()

    def extra_repr(self) -> str:
        """Return what the representation shows first."""
        return (
            f"stepsize={self.stepsize!r}, normalised={self.normalised}, "
            f"DEQ={self.DEQ!r}"
        )

    def scaling(self, like: Tensor) -> CoefficientScaling:
        r"""
        The scaling of the coefficients, as the weights stand.

        :param torch.Tensor like: has the dtype and device of the images.
        """
        return CoefficientScaling.of(self.prior, like, self.normalised)

    def contraction(
        self, physics: LinearPhysics, img_size: Sequence[int]
    ) -> Contraction:
        r"""
        What is known of the contraction, for :func:`deepinv_equilibrium.certify`: see
        :func:`~deepinv_equilibrium.models.wavelet_reconstructor.wavelet_contraction`.

        :param deepinv.physics.LinearPhysics physics: the physics.
        :param Sequence img_size: :math:`(C, H, W)` of the images.
        :return: (Contraction) the rate of the block of layers.
        :raises UncertifiableModuleError: if hooks or replaced methods may change what
            is computed.
        """
        refuse_changed(self)
        scaling = self.scaling(self.prior.log_scale.double())
        return wavelet_contraction(
            physics, img_size, scaling, self.stepsize, self.DEQ.layers
        )

    def fixed_point_problem(
        self, y: Tensor, physics: LinearPhysics
    ) -> tuple[WaveletForwardBackwardStep, State]:
        r"""
        The fixed-point problem that the model solves for a measurement.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: the step, a block of ``DEQ.layers`` iterations, and the initial
            coefficients, :math:`D A^\top y`.
        :raises TypeError: if the physics is not linear, or the images are not real.
        :raises ValueError: if the measurement is none of this physics, its images do
            not fit the prior, or no step size is optimal.
        """
        require_linear(physics)
        image = map_input(y, physics, 0)
        self.prior.check_channels(image)
        scaling = self.scaling(image)
        upper = self._norm.squared(physics, image).value
        optimal = self.stepsize == "optimal"
        lower = spectrum(physics, image.shape[1:]).lower.value if optimal else 0.0
        tau = scaling.step_size(self.stepsize, lower, upper)
        step = WaveletForwardBackwardStep(
            image, physics, self.prior, scaling, tau, self.DEQ.layers
        )
        return step, step.start
