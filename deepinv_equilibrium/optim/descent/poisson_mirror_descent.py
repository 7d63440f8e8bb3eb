"""Mirror descent on a Poisson likelihood with a learned prior."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from deepinv.optim import Prior
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from ...certificates.gradients.step_jacobians import sample_norms
from ...fixed_points import Adjoint, JacobianFree, OnFailure, State
from ...fixed_points.argument_checks import require_in_range, require_number
from ..data_fidelities.kullback_leibler import KullbackLeibler
from ..priors.network_prior import NetworkResidualPrior, value_and_gradient
from .backtracked_descent import BacktrackedDescent


@dataclass(frozen=True)
class MirrorDescentEnergy:
    r"""
    The energy :math:`F(x) = \operatorname{KL}(c, (A x + b) / \gamma) + \lambda
    g_\sigma(x)` on the box :math:`[l, u]^n` for one measurement, with steps of mirror
    descent with Burg's entropy.

    :param KullbackLeibler data_fidelity: the divergence.
    :param deepinv.optim.Prior prior: :math:`g`, differentiable.
    :param float g_param: :math:`\sigma`, the argument of the prior; ``None`` if it has
        no argument.
    :param float weight: :math:`\lambda`.
    :param tuple bounds: :math:`(l, u)`.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.LinearPhysics physics: its physics.
    """

    data_fidelity: KullbackLeibler
    prior: Prior
    g_param: float | None
    weight: float
    bounds: tuple[float, float]
    y: Tensor
    physics: LinearPhysics

    def start(self) -> Tensor:
        r"""Return :math:`A^\top y`, scaled so that :math:`A x` has the sum of
        :math:`y`, and clipped to the box. A measurement of zeros starts at the lower
        end of the box."""
        y = self.data_fidelity.normalized(self.y, self.physics)
        x = self.physics.A_adjoint(y)
        light, projected = (
            v.flatten(1).sum(dim=1).reshape(-1, *[1] * (x.ndim - 1))
            for v in (y, self.physics.A(x))
        )
        bright = projected > 0
        scale = torch.where(bright, light / torch.where(bright, projected, 1), 1)
        return (scale * x).clamp(*self.bounds)

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""
        Return :math:`F(x)` and :math:`\nabla F(x)`.

        :param torch.Tensor x: positive images, of shape :math:`(B, ...)`.
        :return: the energies in float64, of shape :math:`(B,)` and without gradient,
            and their gradients, recorded if gradients are enabled.
        """
        fidelity = self.data_fidelity.grad(x, self.y, self.physics)
        prior, gradient = value_and_gradient(self._prior, x)
        with torch.no_grad():
            value = self.data_fidelity(x, self.y, self.physics).double()
        return value + prior, fidelity + gradient

    def step(self, x: Tensor, gradient: Tensor, tau: Tensor) -> Tensor:
        r"""
        Return the minimiser of
        :math:`\langle \nabla F(x), z \rangle + D_h(z, x) / \tau` over :math:`z` in the
        box. It is the minimiser over :math:`z > 0`, clipped, or the upper end of the
        box where the function has no minimiser because it is decreasing.

        :param torch.Tensor x: positive images.
        :param torch.Tensor gradient: :math:`\nabla F(x)`.
        :param torch.Tensor tau: :math:`\tau`, one value a sample, broadcastable to
            ``x``.
        """
        denominator = 1 + tau * x * gradient
        # A NaN stays in the result, where the monitor finds it.
        unbounded = denominator <= 0
        quotient = x / torch.where(unbounded, 1, denominator)
        lower, upper = self.bounds
        return torch.where(unbounded, upper, quotient.clamp(lower, upper))

    def divergence(self, trial: Tensor, x: Tensor) -> Tensor:
        r"""Return the divergence of Burg's entropy, which Itakura and Saito introduced,
        :math:`D_h(x^+, x) = \sum_i x^+_i / x_i - \log(x^+_i / x_i) - 1`."""
        change = ((trial - x) / x).double()
        return (change - torch.log1p(change)).flatten(1).sum(dim=1)

    def residual(self, trial: Tensor, x: Tensor, tau: Tensor) -> Tensor:
        r"""Return :math:`\|x^+ - x\|` for the actual step size. It is not monotone in
        :math:`\tau`, so it cannot be related to the first step size."""
        return sample_norms(trial - x)

    def domain(self, state: State) -> Tensor:
        """Return which samples are positive images."""
        assert isinstance(state, Tensor)
        return (state > 0).flatten(1).all(dim=1)

    def _prior(self, x: Tensor) -> Tensor:
        arguments = () if self.g_param is None else (self.g_param,)
        return self.weight * self.prior(x, *arguments).double()


class PoissonMirrorDescent(BacktrackedDescent):
    r"""
    Decrease the negative log-likelihood of Poisson noise plus a learned prior,

    .. math::

        F(x) = \operatorname{KL}\Bigl(c, \frac{A x + b}{\gamma}\Bigr)
        + \lambda g_\sigma(x), \qquad x \in [l, u]^n, \quad 0 < l,

    by mirror descent with Burg's entropy :math:`h(x) = -\sum_i \log x_i` and
    backtracking for each sample,

    .. math::

        T_\tau(x) = \operatorname{clip}_{[l, u]}
            \frac{x}{1 + \tau x \nabla F(x)}, \qquad
        F(x) - F(T_\tau(x)) \ge \frac{\kappa}{\tau} D_h(T_\tau(x), x),

    where :math:`\tau \leftarrow \eta \tau` until the inequality holds: DEQ-MD, the deep
    equilibrium model of :footcite:t:`daniele2025deep`. The clipped quotient
    (:math:`u` where its denominator is not positive) is the exact minimiser over the
    box of the linearised energy plus :math:`D_h(\cdot, x) / \tau`. Therefore

    .. math::

        F(x) - F(T_\tau(x)) \ge \Bigl(\frac{1}{\tau} - L\Bigr) D_h(T_\tau(x), x)
            + \frac{1}{\tau} D_h(x, T_\tau(x))

    if :math:`F` is :math:`L`-smooth relative to :math:`h` on the box. The inequality
    then holds for :math:`\tau \le (1 - \kappa) / L`, so that backtracking ends. For
    :math:`A, b \ge 0` the divergence has the constant :math:`\|c\|_1`
    (:meth:`KullbackLeibler.relative_smoothness
    <deepinv_equilibrium.optim.KullbackLeibler.relative_smoothness>`), and a prior with
    an :math:`L_g`-Lipschitz gradient adds :math:`\lambda L_g u^2`.

    The energy decreases, and :math:`\min_k D_h(x_{k+1}, x_k) \le
    \tau_0 (F(x_0) - \inf F) / (\kappa m)` after :math:`m` steps. The inequality is
    checked in every step, in the precision of the model, and reported in
    :attr:`~.BacktrackedDescent.solution`. No contraction and no rate follow, and
    critical points need not be unique.

    An adjoint gives the solution, a fixed point of :math:`T_\tau` for every
    :math:`\tau`, its gradient with respect to the prior, the measurement and the
    physics: Jacobian-free as in the paper, or another one.

    :param deepinv.optim.Prior prior: :math:`g`, with a differentiable value, such as
        :class:`NetworkResidualPrior
        <deepinv_equilibrium.optim.NetworkResidualPrior>` or :class:`ScalarNetworkPrior
        <deepinv_equilibrium.optim.ScalarNetworkPrior>`.
    :param float g_param: argument :math:`\sigma` of the prior, nonnegative. Default:
        ``None``, for a prior without an argument.
    :param float lambda_reg: :math:`\lambda`, positive. Default: 1.
    :param KullbackLeibler data_fidelity: the divergence. Default: ``None``, the
        divergence with the noise model of the physics.
    :param tuple bounds: :math:`(l, u)`, smallest and largest value of a pixel;
        :math:`u` may be infinite. Default: ``(1e-4, 1.0)``.
    :param float stepsize: initial step size :math:`\tau_0`. Default: 1.
    :param float gamma: :math:`\kappa`, in :math:`(0, 1)`. Default: 0.8.
    :param float eta: :math:`\eta`, in :math:`(0, 1)`. Default: 0.5.
    :param int max_iter: largest number of trial steps. Default: 1000.
    :param float rtol: tolerance on the relative residual, see :class:`Descent
        <deepinv_equilibrium.optim.descent.Descent>`; with 0 all trial steps are made.
        Default: ``2.5e-5``.
    :param deepinv_equilibrium.fixed_points.Adjoint adjoint: how the solution is
        differentiated. Default: ``JacobianFree()``.
    :param str on_failure: what to do if a sample does not converge, forward or
        backward: ``"warn"`` (default), ``"raise"`` or ``"ignore"``.
    :raises TypeError: if an argument has a wrong type.
    :raises ValueError: if an argument is out of range, or the prior has no value.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> physics = dinv.physics.Denoising(dinv.physics.PoissonNoise(gain=1 / 60))
    >>> prior = deq.optim.NetworkResidualPrior(deq.models.SmallDRUNet())
    >>> model = deq.optim.PoissonMirrorDescent(prior, g_param=0.1, lambda_reg=20.0)
    >>> y = physics(torch.full((1, 3, 16, 16), 0.5))
    >>> with torch.no_grad():
    ...     x = model(y, physics)
    >>> model.solution.converged.item(), x.shape
    (True, torch.Size([1, 3, 16, 16]))
    """

    def __init__(
        self,
        prior: Prior,
        g_param: float | None = None,
        lambda_reg: float = 1.0,
        data_fidelity: KullbackLeibler | None = None,
        bounds: tuple[float, float] = (1e-4, 1.0),
        stepsize: float = 1.0,
        gamma: float = 0.8,
        eta: float = 0.5,
        max_iter: int = 1000,
        rtol: float = 2.5e-5,
        adjoint: Adjoint = JacobianFree(),
        on_failure: OnFailure = "warn",
    ) -> None:
        super().__init__(stepsize, gamma, eta, max_iter, rtol, adjoint, on_failure)
        if not isinstance(prior, Prior):
            raise TypeError(
                f"prior must be a deepinv.optim.Prior, got {prior!r}; the preset "
                "'deq-md' of deq.plugins.create takes a name."
            )
        if not prior.explicit_prior:
            raise ValueError(
                "prior must have a value, which decides on the steps, got "
                f"{type(prior).__name__}, which has none. Use NetworkResidualPrior, or "
                "deq.optim.MD with BurgEntropy() and a fixed step size."
            )
        if data_fidelity is None:
            data_fidelity = KullbackLeibler()
        if not isinstance(data_fidelity, KullbackLeibler):
            raise TypeError(
                "data_fidelity must be a deq.optim.KullbackLeibler, got "
                f"{type(data_fidelity).__name__}."
            )
        require_in_range("lambda_reg", lambda_reg)
        if g_param is not None:
            require_in_range("g_param", g_param, zero=True)
        elif isinstance(prior, NetworkResidualPrior):
            raise ValueError(
                "g_param must be given with NetworkResidualPrior: it is the noise "
                "level of the denoiser, e.g. g_param=0.05."
            )
        if not isinstance(bounds, tuple | list) or len(bounds) != 2:
            raise TypeError(f"bounds must be (l, u) with 0 < l < u, got {bounds!r}.")
        lower, upper = bounds
        for number in bounds:
            require_number("bounds[0] or bounds[1]", number)
        if not 0 < lower < upper:
            raise ValueError(f"bounds must be (l, u) with 0 < l < u, got {bounds!r}.")
        self.prior = prior
        self.data_fidelity = data_fidelity
        self.g_param = g_param
        self.lambda_reg = float(lambda_reg)
        self.bounds = (float(lower), float(upper))

    def energy(self, y: Tensor, physics: Physics) -> MirrorDescentEnergy:
        r"""
        Return the energy for a measurement.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.LinearPhysics physics: its physics.
        :return: (MirrorDescentEnergy) :math:`F`.
        :raises TypeError: if the physics is not linear.
        """
        if not isinstance(physics, LinearPhysics):
            raise TypeError(
                "physics must be a deepinv.physics.LinearPhysics for mirror descent on "
                f"a Kullback-Leibler divergence, got {type(physics).__name__}."
            )
        return MirrorDescentEnergy(
            self.data_fidelity,
            self.prior,
            self.g_param,
            self.lambda_reg,
            self.bounds,
            y,
            physics,
        )

    def extra_repr(self) -> str:
        """Return the parameters of the energy."""
        return (
            f"g_param={self.g_param}, lambda_reg={self.lambda_reg:g}, "
            f"bounds={self.bounds}"
        )
