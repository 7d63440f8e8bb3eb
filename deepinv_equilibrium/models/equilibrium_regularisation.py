"""Regularisation by an equilibrium equation with a monotone network."""

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
from ..certificates.bounds import derived
from ..certificates.declarations import refuse_changed
from ..certificates.rates.data_sensitivity import prox_sensitivity
from ..equilibrium import Equilibrium, EquilibriumModel
from ..equilibrium.input_checks import (
    require_contractive,
    require_denoiser,
    require_linear,
)
from ..equilibrium.measured_physics import MeasuredPhysics
from ..fixed_points import State
from ..fixed_points.argument_checks import require_number
from ..optim.contraction.model_contraction import as_if_exact, has_closed_prox


class ResolventStep:
    r"""
    :math:`x \mapsto (A^* A + \alpha I)^{-1} (A^* y + \alpha N_\sigma(x))`, as often as
    the block has layers.

    :param deepinv.models.Denoiser denoiser: :math:`N`.
    :param float sigma_denoiser: :math:`\sigma`.
    :param torch.Tensor log_alpha: :math:`\log \alpha`, a number.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.LinearPhysics physics: its physics.
    :param deepinv_equilibrium.Equilibrium config: has the number of layers, and what to
        do where the inverse is solved iteratively and cut off.
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
        """The image after the block."""
        assert isinstance(state, Tensor)
        x = state
        if torch.is_grad_enabled():
            self.measured.start_recording()
        gamma = torch.exp(-self.log_alpha).to(x)
        for _ in range(self.layers):
            denoised = self.denoiser(x, self.sigma_denoiser)
            x = self.physics.prox_l2(denoised, self.y, gamma)
        return x


class EquilibriumRegularisation(EquilibriumModel):
    r"""
    The solution of an equation, which need not be that of a minimisation,

    .. math::

        A^*(A x - y) + \alpha G(x) = 0, \qquad G = I - N_\sigma, \qquad
        \|N_\sigma(u) - N_\sigma(v)\| \le q \|u - v\|, \quad q < 1,

    for any linear physics: equilibrium regularisation in the sense of
    :footcite:t:`obmann2023convergence`, with a network :math:`N` whose :math:`q` is
    certified, such as a denoiser. :math:`G` is :math:`\kappa`-strongly monotone with
    :math:`\kappa = 1 - q`, so that there is exactly one solution. It is the fixed point
    of

    .. math::

        x \mapsto (A^* A + \alpha I)^{-1} (A^* y + \alpha N_\sigma(x)),

    a contraction of rate :math:`q \alpha / (\alpha + \mu)` for :math:`A^* A \succeq
    \mu I`, whatever :math:`\alpha` is. :func:`deepinv_equilibrium.certify` gives the
    rate, and the stability :math:`\|x_1 - x_2\| \le \|y_1 - y_2\| / (2 \sqrt{\alpha
    \kappa})`; :meth:`error_bound` the error under a source condition;
    :func:`~deepinv_equilibrium.certificates.parameter_choice` an :math:`\alpha` for a
    noise level.

    :math:`\alpha` is learned as its logarithm, with the weights of the network unless
    they are frozen.

    :param deepinv.models.Denoiser denoiser: :math:`N`, proved to be a strict
        contraction, such as ``ConvexPotentialDenoiser(contraction=0.9)``; the registry
        creates the model from the name of a denoiser.
    :param float alpha: :math:`\alpha > 0`, to start from.
    :param float sigma_denoiser: :math:`\sigma \ge 0`.
    :param deepinv_equilibrium.Equilibrium, deepinv_equilibrium.ReTune DEQ: how the
        equation is solved and differentiated. Default: ``None``, ``Equilibrium()``.
    :param bool show_progress_bar: whether to show one during the iterations.
    :raises TypeError: if an argument is of another type.
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
        r""":math:`\alpha`; it can be set."""
        return float(self.log_alpha.detach().exp())

    @alpha.setter
    def alpha(self, value: float) -> None:
        require_number("alpha", value)
        if not 0 < value < math.inf:
            raise ValueError(f"alpha must be in (0, inf), got {value!r}.")
        with torch.no_grad():
            self.log_alpha.fill_(math.log(value))

    def monotonicity(self, img_size: Sequence[int]) -> Bound:
        r"""
        :math:`\kappa = 1 - q` with :math:`\langle G(u) - G(v), u - v \rangle \ge \kappa
        \|u - v\|^2`.

        :param Sequence img_size: size of the images, without the batch.
        :return: (Bound) from below.
        """
        refuse_changed(self)
        q = lipschitz(self.denoiser, tuple(img_size))
        kappa = max(0.0, 1 - q.value) * (1 - 1e-15)
        return derived(kappa, (q,), f"1 - q, q {q}", is_lower=True)

    def error_bound(
        self, noise_level: float, source_norm: float, img_size: Sequence[int]
    ) -> Bound:
        r"""
        Bound of :math:`\|x - x^\dagger\|` under the source condition
        :math:`G(x^\dagger) = A^* w`; see
        :func:`~deepinv_equilibrium.certificates.source_condition_error`.

        :param float noise_level: :math:`\delta \ge \|y - A x^\dagger\|`.
        :param float source_norm: :math:`\|w\|`.
        :param Sequence img_size: size of the images, without the batch.
        :return: (Bound) :math:`(\delta + \alpha \|w\|) / (2 \sqrt{\alpha \kappa})`.
        :raises ValueError: if a number is out of its range.
        """
        kappa = self.monotonicity(img_size)
        return source_condition_error(noise_level, source_norm, self.alpha, kappa)

    def contraction(
        self, physics: LinearPhysics, img_size: Sequence[int]
    ) -> Contraction:
        r"""
        What is known of the contraction, for :func:`deepinv_equilibrium.certify`.

        :param deepinv.physics.LinearPhysics physics: the physics.
        :param Sequence img_size: size of the images, without the batch.
        :return: (Contraction) the rate, and the stability of the solution.
        """
        kappa = self.monotonicity(img_size)
        interval, alpha = spectrum(physics, img_size), self.alpha
        q = lipschitz(self.denoiser, tuple(img_size))
        tau = 1 / alpha
        rate = derived(
            rates.half_quadratic_splitting(interval.lower.value, tau, q.value),
            (interval.lower, q),
            "q alpha / (alpha + mu)",
        )
        gain = prox_sensitivity(interval.upper.value, tau)
        terms = (
            Term("smallest eigenvalue of A^T A", "mu", interval.lower),
            Term("Lipschitz constant of the network", "q", q),
            Term("weight of the regularisation", "alpha", Bound(alpha), exact=True),
        )
        source = "proximal operator in the data"
        layer = LayerRate(rate, derived(gain, (interval.upper,), source), terms)
        notes = ["The rate is that of the step in exact arithmetic."]
        if not has_closed_prox(physics):
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
        The fixed-point problem that the model solves for a measurement.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: the step, a block of ``DEQ.layers`` of them, and :math:`A^* y`.
        :raises TypeError: if the physics is not linear.
        :raises ValueError: if the measurement is none of this physics.
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
        """Return the noise level that the denoiser receives."""
        return [self.sigma_denoiser]
