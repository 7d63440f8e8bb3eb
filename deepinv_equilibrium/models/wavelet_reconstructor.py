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
from ..optim.contraction.data_constants import gram_rounding
from ..optim.wavelets.coefficient_scaling import CoefficientScaling
from ..optim.wavelets.forward_backward_step import WaveletForwardBackwardStep
from ..optim.wavelets.wavelet_prior import WeightedWaveletPrior
from .least_squares_image import map_input


class WaveletReconstructor(EquilibriumModel):
    r"""
    Reconstruction of real images with a weighted wavelet norm, for a linear operator
    :math:`A`,

    .. math::

        \hat x = \operatorname*{arg\,min}_x \tfrac12 \|A x - y\|^2 + \|\theta D
        x\|_{1,2}.

    This is equation (43) of :footcite:t:`davy2025restarted`, with :math:`A = I` in
    Section 4.1 and a general :math:`A` in Section 4.2. It is solved by the
    forward-backward iterations of equation (51) in the scaled coefficients :math:`u =
    \theta D x`, see
    :class:`~deepinv_equilibrium.optim.wavelets.WaveletForwardBackwardStep`. They start
    from :math:`D A^\top y`. The weights :math:`\theta` are trained.

    ``deq.optim.PGD`` with the same prior solves the same problem in the image, which
    takes fewer iterations for :math:`A \neq I`. For :math:`A = I` the proximal operator
    of the prior is the solution.

    The Hessian of the data fidelity in :math:`u` has eigenvalues between :math:`\mu =
    \lambda_{\min}(A^\top A) / \max(\theta)^2` and :math:`L = \|A\|^2 /
    \min(\theta)^2`. The step sizes of the paper are :math:`\tau = 1.95/L` and
    :math:`\tau = 2/(\mu + L)`, the second of which has the best rate. They depend on
    the weights and are differentiated in them, so that ``ReTune(K, 1)`` and
    ``Unrolled`` have the gradient of what they compute. This part of the gradient
    vanishes at the solution. The bounds of the spectrum of :math:`A^\top A` are
    numbers: the gradient in parameters of the physics does not contain the dependence
    of :math:`\tau` on them.

    With ``normalised=True`` the weights of each scale are divided by their minimum, see
    :class:`~deepinv_equilibrium.optim.wavelets.CoefficientScaling`. The paper shows
    results of a "normalized step variant" without a definition; this is our
    interpretation.

    Calling the model returns images of shape :math:`(B, C, H, W)`. In addition to
    :class:`~deepinv_equilibrium.equilibrium.EquilibriumModel`, it raises

    - a ``TypeError`` if the physics is not linear or the images are complex,
    - a ``ValueError`` if ``y`` has values that are not finite, its images have another
      number of channels than the prior, or :math:`\mu = 0` with
      ``stepsize="optimal"``.

    :param WeightedWaveletPrior prior: the prior, with the weights :math:`\theta`.
    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: solver,
        adjoint and number of layers of the step; ``ReTune(K, 1)`` unrolls :math:`K`
        iterations. Default: ``None``, ``Equilibrium()``.
    :param float, str stepsize: :math:`\tau L`, in (0, 2), or ``"optimal"`` for
        :math:`\tau = 2/(\mu + L)`, which requires :math:`\mu > 0`. Default: 1.95.
    :param bool normalised: whether the weights of each scale are divided by their
        minimum. Default: ``False``.
    :param bool show_progress_bar: whether to show a progress bar during the iterations.
        Default: ``False``.
    :raises TypeError: if ``prior`` or ``DEQ`` is of another type.
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

    has_common_step_size = True

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
        """Return the settings that ``repr`` shows."""
        return (
            f"stepsize={self.stepsize!r}, normalised={self.normalised}, "
            f"DEQ={self.DEQ!r}"
        )

    def scaling(self, like: Tensor) -> CoefficientScaling:
        r"""
        Return the scaling of the coefficients for the current weights.

        :param torch.Tensor like: a tensor with the dtype and device of the images.
        :return: (CoefficientScaling) the scaling.
        """
        return CoefficientScaling.of(self.prior, like, self.normalised)

    def contraction(
        self, physics: LinearPhysics, img_size: Sequence[int]
    ) -> Contraction:
        r"""
        Return the rate of the step and the stability of the minimiser;
        :func:`deepinv_equilibrium.certify` reports them.

        Let :math:`\lambda I \preceq A^\top A \preceq \Lambda I`, and :math:`\rho` be
        the scaling of the coefficients. As :math:`D` is orthonormal, the eigenvalues of
        the Hessian of the data fidelity in the scaled coefficients are between
        :math:`\mu = \lambda / \max(\rho)^2` and :math:`L = \Lambda / \min(\rho)^2`. An
        iteration has the rate :math:`\max(|1 - \tau\mu|, |1 - \tau L|)`. As
        :math:`A x^\star(y)` is a proximal operator at :math:`y`, the minimisers satisfy
        :math:`\|x^\star(y_1) - x^\star(y_2)\| \leq \|y_1 - y_2\| / \sqrt\lambda`.

        :param deepinv.physics.LinearPhysics physics: the physics.
        :param Sequence img_size: size :math:`(C, H, W)` of the images.
        :return: (Contraction) the rate of a block of ``DEQ.layers`` iterations, and the
            stability.
        :raises UncertifiableModuleError: if a hook or a replaced method may change what
            the model computes.
        :raises ValueError: if ``stepsize="optimal"`` and :math:`\lambda = 0`.
        """
        refuse_changed(self)
        scaling, layers = self.scaling(self.prior.log_scale.double()), self.DEQ.layers
        ends = spectrum(physics, img_size).of_one_kind()
        lower, upper = ends.lower, ends.upper
        tau = float(scaling.step_size(self.stepsize, lower.value, upper.value))
        # The weights and their quotients are rounded by far less than 1e-12.
        largest = float(scaling.largest)
        rounding = 1e-12 + gram_rounding(physics)
        mu = outward(
            lower.value * float(scaling.smallest), is_lower=True, relative=rounding
        )
        L = outward(upper.value * largest, relative=rounding)
        step = derived(
            rates.gradient_step(mu, L, tau), (lower, upper), "max |1 - tau {mu, L}|"
        )
        smallest = Bound(mu, lower.kind, f"mu {lower} / max(rho)^2", is_lower=True)
        terms = (
            Term("smallest curvature in the coefficients", "mu", smallest),
            Term(
                "largest curvature in the coefficients", "L", derived(L, (upper,), "")
            ),
            Term("step size", "tau", Bound(tau), exact=True),
        )
        gain = math.sqrt(upper.value * largest) * tau
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

    def fixed_point_problem(
        self, y: Tensor, physics: LinearPhysics
    ) -> tuple[WaveletForwardBackwardStep, State]:
        r"""
        Return the step, a block of ``DEQ.layers`` iterations, and the initial
        coefficients :math:`D A^\top y`.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: (tuple) the step and the initial coefficients.
        :raises TypeError: if the physics is not linear or the images are complex.
        :raises ValueError: if ``y`` does not have the shape that ``physics.A`` returns
            or has values that are not finite, its images have another number of
            channels than the prior, or :math:`\mu = 0` with ``stepsize="optimal"``.
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
