"""Regularisation by an equilibrium equation with a monotone operator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from deepinv.models import Denoiser
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from ..certificates import (
    Bound,
    Contraction,
    LayerRate,
    Term,
    lipschitz,
    monotone_stability,
    rates,
    source_condition_error,
    spectrum,
)
from ..certificates.bounds import derived, outward
from ..certificates.declarations import refuse_changed
from ..certificates.rates.data_sensitivity import prox_sensitivity
from ..certificates.spectra.closed_prox import has_closed_prox
from ..equilibrium import Equilibrium, EquilibriumModel
from ..equilibrium.input_checks import (
    require_contractive,
    require_denoiser,
    require_linear,
)
from ..equilibrium.measured_physics import MeasuredPhysics
from ..fixed_points import State
from ..fixed_points.argument_checks import require_number
from ..optim.contraction.data_constants import prox_rounding, rounded_ends
from ..optim.contraction.model_contraction import as_if_exact


class ResolventStep:
    r"""
    A block of :math:`K` iterations of

    .. math::

        x \mapsto (A^* A + \alpha I)^{-1} (A^* y + \alpha N_\sigma(x)).

    :param deepinv.models.Denoiser denoiser: the network :math:`N`.
    :param float sigma_denoiser: the noise level :math:`\sigma`.
    :param torch.Tensor log_alpha: :math:`\log \alpha`, without axes.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.LinearPhysics physics: its physics.
    :param deepinv_equilibrium.Equilibrium config: contains :math:`K` as ``layers``, and
        ``on_failure``, which applies if an iterative solver computes the inverse and
        does not converge.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        sigma_denoiser: float,
        log_alpha: Tensor,
        y: Tensor,
        physics: LinearPhysics,
        config: Equilibrium,
    ) -> None:
        self.denoiser = denoiser
        self.sigma_denoiser = sigma_denoiser
        self.log_alpha = log_alpha
        self.y = y
        self.measured = MeasuredPhysics(physics, y, config.on_failure)
        self.physics = self.measured.physics
        self.layers = config.layers

    def __call__(self, state: State) -> State:
        """Return the image after the block."""
        assert isinstance(state, Tensor)
        x = state
        if torch.is_grad_enabled():
            self.measured.start_recording()
        # In the precision of the image, in which the certificate computes with it.
        precision = torch.promote_types(self.log_alpha.dtype, x.dtype.to_real())
        gamma = torch.exp(-self.log_alpha.to(x.device, precision))
        for _ in range(self.layers):
            denoised = self.denoiser(x, self.sigma_denoiser)
            x = self.physics.prox_l2(denoised, self.y, gamma)
        return x


class EquilibriumRegularisation(EquilibriumModel):
    r"""
    Equilibrium regularisation :footcite:p:`obmann2023convergence`: the solution
    :math:`x` of

    .. math::

        A^*(A x - y) + \alpha G(x) = 0, \qquad G = I - N_\sigma, \qquad
        \|N_\sigma(u) - N_\sigma(v)\| \le q \|u - v\|, \quad q < 1,

    for a linear operator :math:`A` and a network :math:`N`, such as a denoiser, with a
    certified :math:`q`. The equation need not be the optimality condition of a
    minimisation problem. :math:`G` is :math:`\kappa`-strongly monotone with
    :math:`\kappa = 1 - q`, so that the equation has exactly one solution. The solution
    is the fixed point of

    .. math::

        x \mapsto (A^* A + \alpha I)^{-1} (A^* y + \alpha N_\sigma(x)),

    which contracts for every :math:`\alpha > 0`, at the rate :math:`q \alpha / (\alpha
    + \mu)` for :math:`A^* A \succeq \mu I`. The iterations start from :math:`A^* y`.

    :func:`deepinv_equilibrium.certify` returns this rate and the stability

    .. math::

        \|x(y_1) - x(y_2)\| \le \frac{\|y_1 - y_2\|}{2 \sqrt{\alpha \kappa}}.

    :meth:`error_bound` returns a bound of the error under a source condition, and
    :func:`~deepinv_equilibrium.certificates.parameter_choice` a value of :math:`\alpha`
    for a noise level.

    :math:`\alpha` is trained as its logarithm. The weights of the network are trained
    with the model unless they are frozen.

    Calling the model raises a ``TypeError`` if the physics is not linear.

    :param deepinv.models.Denoiser denoiser: network :math:`N` that is proved to be a
        strict contraction, such as ``ConvexPotentialDenoiser(contraction=0.9)``. The
        registry also creates the model from the name of a denoiser.
    :param float alpha: initial :math:`\alpha > 0`. Default: 0.1.
    :param float sigma_denoiser: noise level :math:`\sigma \ge 0` of the denoiser.
        Default: 0.03.
    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: solver,
        adjoint and number of layers of the step. Default: ``None``, ``Equilibrium()``.
    :param bool show_progress_bar: whether to show a progress bar during the iterations.
        Default: ``False``.
    :raises TypeError: if an argument is of another type.
    :raises UncertifiableModuleError: if nothing can be proved of the denoiser.
    :raises ValueError: if the denoiser is not proved to be a strict contraction, or an
        argument is out of its range.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> model = deq.plugins.create(
    ...     "reconstructors",
    ...     "equilibrium-regularisation",
    ...     denoiser="ridge-prox",
    ...     alpha=0.1,
    ... )
    >>> physics = dinv.physics.Denoising()
    >>> y = torch.rand(2, 1, 16, 16)
    >>> with torch.no_grad():
    ...     x = model(y, physics)
    >>> certificate = deq.certify(model, physics, img_size=(1, 16, 16))
    >>> print(f"{certificate.rate.value:.2f} {certificate.stability.value:.2f}")
    0.08 0.99
    """

    def __init__(
        self,
        denoiser: Denoiser,
        alpha: float = 0.1,
        sigma_denoiser: float = 0.03,
        DEQ: Equilibrium | None = None,
        show_progress_bar: bool = False,
    ) -> None:
        super().__init__(DEQ, show_progress_bar)
        require_denoiser(denoiser)
        require_contractive(denoiser)
        require_number("sigma_denoiser", sigma_denoiser)
        if not 0 <= sigma_denoiser < math.inf:
            raise ValueError(
                f"sigma_denoiser must be in [0, inf), got {sigma_denoiser!r}."
            )
        self.denoiser = denoiser
        self.sigma_denoiser = float(sigma_denoiser)
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.alpha = alpha

    @property
    def alpha(self) -> float:
        r"""The weight :math:`\alpha > 0` of the regularisation. It can be set."""
        return float(self.log_alpha.detach().double().exp())

    @alpha.setter
    def alpha(self, value: float) -> None:
        require_number("alpha", value)
        if not 0 < value < math.inf:
            raise ValueError(f"alpha must be in (0, inf), got {value!r}.")
        with torch.no_grad():
            self.log_alpha.fill_(math.log(value))

    def monotonicity(self, img_size: Sequence[int]) -> Bound:
        r"""
        Return a lower bound of the constant :math:`\kappa` of strong monotonicity,

        .. math::

            \langle G(u) - G(v), u - v \rangle \ge \kappa \|u - v\|^2, \qquad
            \kappa = 1 - q.

        :param Sequence img_size: size of the images without the batch axis.
        :return: (Bound) :math:`\kappa`, from below.
        :raises UncertifiableModuleError: if a hook or a replaced method may change what
            the model computes.
        """
        refuse_changed(self)
        q = lipschitz(self.denoiser, tuple(img_size))
        kappa = max(0.0, 1 - q.value) * (1 - 1e-15)
        return derived(kappa, (q,), f"1 - q, q {q}", is_lower=True)

    def error_bound(
        self, noise_level: float, source_norm: float, img_size: Sequence[int]
    ) -> Bound:
        r"""
        Return a bound of the error :math:`\|x - x^\dagger\|` for a true image
        :math:`x^\dagger` that satisfies the source condition :math:`G(x^\dagger) = A^*
        w`,

        .. math::

            \|x - x^\dagger\| \le
            \frac{\delta + \alpha \|w\|}{2 \sqrt{\alpha \kappa}},

        see :func:`~deepinv_equilibrium.certificates.source_condition_error`. Here
        :math:`x` is the exact solution of the equation, whatever the physics. The image
        of the model is at most :math:`r / (1 - \rho)` from the fixed point of its step
        for a residual :math:`r`; if the physics has no closed form of :math:`(A^* A +
        \alpha I)^{-1}`, that fixed point is near :math:`x` up to the tolerance of the
        inner solver.

        :param float noise_level: bound :math:`\delta` of :math:`\|y - A x^\dagger\|`.
        :param float source_norm: norm :math:`\|w\|` of the source element.
        :param Sequence img_size: size of the images without the batch axis.
        :return: (Bound) the bound.
        :raises ValueError: if ``noise_level`` or ``source_norm`` is out of its range.
        """
        kappa = self.monotonicity(img_size)
        return source_condition_error(noise_level, source_norm, self.alpha, kappa)

    def contraction(
        self, physics: LinearPhysics, img_size: Sequence[int]
    ) -> Contraction:
        r"""
        Return the rate of the step and the stability of the solution, which
        :func:`deepinv_equilibrium.certify` reports.

        :param deepinv.physics.LinearPhysics physics: the physics.
        :param Sequence img_size: size of the images without the batch axis.
        :return: (Contraction) the rate of a block of ``DEQ.layers`` iterations, and the
            stability.
        :raises UncertifiableModuleError: if a hook or a replaced method may change what
            the model computes.
        """
        kappa = self.monotonicity(img_size)
        interval, alpha = spectrum(physics, img_size).of_one_kind(), self.alpha
        q = lipschitz(self.denoiser, tuple(img_size))
        tau = 1 / alpha
        ends = interval.lower.value, interval.upper.value
        rounding = prox_rounding(physics)
        mu, _ = rounded_ends(*ends, tau, rounding)
        rate = derived(
            rates.half_quadratic_splitting(mu, tau, q.value),
            (interval.lower, q),
            "q alpha / (alpha + mu)",
        )
        gain = outward(prox_sensitivity(ends[1], tau), relative=rounding)
        terms = (
            Term("smallest eigenvalue of A^T A", "mu", interval.lower),
            Term("Lipschitz constant of the network", "q", q),
            Term("weight of the regularisation", "alpha", Bound(alpha), exact=True),
        )
        source = "proximal operator in the data"
        layer = LayerRate(rate, derived(gain, (interval.upper,), source), terms)
        notes = ["The rate is that of the step in exact arithmetic."]
        if not has_closed_prox(physics, tuple(img_size)):
            layer = as_if_exact(layer)
            notes.append(
                "It is that of the step with the exact inverse of A^T A + alpha I, and "
                "so estimated; the stability is that of the equation."
            )
        layers = self.DEQ.layers
        value = rates.block([layer.rate.value] * layers)
        return Contraction(
            derived(value, (layer.rate,), layer.rate.source),
            "l2 norm of the image x",
            (layer,) * layers,
            monotone_stability(interval, alpha, kappa),
            notes=tuple(notes),
        )

    def fixed_point_problem(
        self, y: Tensor, physics: LinearPhysics
    ) -> tuple[ResolventStep, State]:
        r"""
        Return the step, a block of ``DEQ.layers`` iterations, and the initial image
        :math:`A^* y`.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: (tuple) the step and the initial image.
        :raises TypeError: if the physics is not linear.
        """
        require_linear(physics)
        step = ResolventStep(
            self.denoiser,
            self.sigma_denoiser,
            self.log_alpha,
            y,
            physics,
            self.DEQ,
        )
        return step, step.physics.A_adjoint(y).detach()

    def noise_levels(self) -> list[float]:
        """Return the noise level of the denoiser."""
        return [self.sigma_denoiser]
