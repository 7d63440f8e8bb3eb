"""Gradient-step plug-and-play: proximal gradient descent on a learned energy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from deepinv.models.GSPnP import GSPnP
from deepinv.optim import L2, DataFidelity
from deepinv.physics import Physics
from torch import Tensor

from ...certificates.gradients.step_jacobians import sample_norms
from ...equilibrium.measured_physics import adjoint_image
from ...fixed_points import Adjoint, Implicit, OnFailure
from ...fixed_points.argument_checks import require_in_range
from ..priors.network_prior import value_and_gradient
from .backtracked_descent import BacktrackedDescent


@dataclass(frozen=True)
class GradientStepEnergy:
    r"""
    The energy :math:`F(x) = f(x) + \lambda \frac{\alpha}{2} \|x - N_\sigma(x)\|^2` for
    one measurement.

    :param deepinv.models.GSPnP.GSPnP denoiser: the denoiser, with :math:`N` and
        :math:`\alpha`.
    :param deepinv.optim.DataFidelity data_fidelity: :math:`f`.
    :param float sigma: noise level :math:`\sigma`.
    :param float weight: :math:`\lambda`.
    :param float first_stepsize: :math:`\tau_0`, the unit of step sizes in residuals.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    """

    denoiser: GSPnP
    data_fidelity: DataFidelity
    sigma: float
    weight: float
    first_stepsize: float
    y: Tensor
    physics: Physics

    def start(self) -> Tensor:
        r"""Return :math:`A^\top y`."""
        return adjoint_image(self.physics, self.y)

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""
        Return :math:`F(x)`, and :math:`\lambda \nabla g_\sigma(x)` by automatic
        differentiation.

        :param torch.Tensor x: images, of shape :math:`(B, ...)`.
        :return: the energies in float64, of shape :math:`(B,)` and without gradient,
            and the gradients of the prior, recorded if gradients are enabled.
        """
        prior, gradient = value_and_gradient(self._prior, x)
        with torch.no_grad():
            fidelity = self.data_fidelity(x, self.y, self.physics)
        return prior + fidelity.double(), gradient

    def step(self, x: Tensor, gradient: Tensor, tau: Tensor) -> Tensor:
        r"""
        Return :math:`\operatorname{prox}_{\tau f}(x - \tau \lambda \nabla
        g_\sigma(x))`.

        :param torch.Tensor x: images.
        :param torch.Tensor gradient: :math:`\lambda \nabla g_\sigma(x)`.
        :param torch.Tensor tau: :math:`\tau`, one value a sample, broadcastable to
            ``x``.
        """
        z = x - tau * gradient
        return self.data_fidelity.prox(z, self.y, self.physics, gamma=tau)

    def divergence(self, trial: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\|x^+ - x\|^2`."""
        return sample_norms(trial - x).square()

    def residual(self, trial: Tensor, x: Tensor, tau: Tensor) -> Tensor:
        r"""Return :math:`\frac{\tau_0}{\tau} \|x^+ - x\|`, see :class:`Descent
        <deepinv_equilibrium.optim.descent.Descent>`."""
        return sample_norms(trial - x) * self.first_stepsize / tau

    def _prior(self, x: Tensor) -> Tensor:
        r"""Return :math:`\lambda g_\sigma(x)`, summed in float64."""
        gap = x - self.denoiser.student_grad(x, self.sigma)
        factor = 0.5 * self.weight * self.denoiser.alpha
        return factor * gap.double().square().flatten(1).sum(dim=1)


class GradientStepPGD(BacktrackedDescent):
    r"""
    Decrease an energy with the prior of a gradient-step denoiser,

    .. math::

        F(x) = f(x) + \lambda g_\sigma(x), \qquad
        g_\sigma(x) = \frac{\alpha}{2} \|x - N_\sigma(x)\|^2,

    by proximal gradient steps with backtracking,

    .. math::

        T_\tau(x) = \operatorname{prox}_{\tau f}
            \bigl(x - \tau \lambda \nabla g_\sigma(x)\bigr), \qquad
        F(x) - F(T_\tau(x)) \ge \frac{\gamma}{\tau} \|x - T_\tau(x)\|^2,

    where :math:`\tau \leftarrow \eta \tau` for each sample until the inequality holds:
    gradient-step plug-and-play :footcite:p:`hurault2022gradient`. :math:`N` may be any
    network, such as DRUNet, without constraints. If :math:`f` is convex and
    :math:`\nabla g_\sigma` is :math:`L`-Lipschitz near the iterates, the inequality
    holds for :math:`\tau \le 2 (1 - \gamma) / (\lambda L)`, so that backtracking ends.
    (The paper has :math:`(1 - 2\gamma) / (\lambda L)`, for any :math:`f`.) The
    activations of :math:`N` must be smooth, like the ELU of
    :func:`deepinv.models.GSDRUNet`.

    The energy decreases, and :math:`\min_k \|x_{k+1} - x_k\|^2 \le
    \tau_0 (F(x_0) - \inf F) / (\gamma m)` after :math:`m` steps. The inequality is
    checked in every step, in the precision of the model, and reported in
    :attr:`~.BacktrackedDescent.solution`. No contraction and no rate follow, and
    critical points need not be unique.

    An adjoint gives the solution, a fixed point of :math:`T_\tau`, its gradient with
    respect to the network, the measurement and the physics, at the cost of one more
    evaluation. The model differentiates the energy and its gradient itself. The
    ``detach`` in the denoiser, which cuts off the derivative of the denoiser's own
    call, is not involved.

    :param deepinv.models.GSPnP.GSPnP denoiser: gradient-step denoiser, such as
        ``deepinv.models.GSDRUNet(pretrained="download")``; its :math:`N` and
        :math:`\alpha` are used.
    :param float sigma_denoiser: noise level :math:`\sigma`, nonnegative. Default: 0.03.
    :param float lambda_reg: :math:`\lambda`, positive. Default: 1.
    :param deepinv.optim.DataFidelity data_fidelity: :math:`f`, convex and with a
        proximal operator. Default: ``None``, :class:`deepinv.optim.L2`.
    :param float stepsize: initial step size :math:`\tau_0`. Default: ``None``,
        :math:`1 / \lambda`, for which :math:`x - \tau\lambda\nabla g_\sigma(x)` is the
        denoiser if :math:`\alpha = 1`.
    :param float gamma: :math:`\gamma`, in :math:`(0, 1)`. Default: 0.1.
    :param float eta: :math:`\eta`, in :math:`(0, 1)`. Default: 0.9.
    :param int max_iter: largest number of trial steps. Default: 400.
    :param float rtol: tolerance on the relative residual, see :class:`Descent
        <deepinv_equilibrium.optim.descent.Descent>`; with 0 all trial steps are made.
        Default: ``1e-3``.
    :param deepinv_equilibrium.fixed_points.Adjoint adjoint: how the solution is
        differentiated. Default: ``Implicit()``.
    :param str on_failure: what to do if a sample does not converge, forward or
        backward: ``"warn"`` (default), ``"raise"`` or ``"ignore"``.
    :raises TypeError: if an argument has a wrong type.
    :raises ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        denoiser: GSPnP,
        sigma_denoiser: float = 0.03,
        lambda_reg: float = 1.0,
        data_fidelity: DataFidelity | None = None,
        stepsize: float | None = None,
        gamma: float = 0.1,
        eta: float = 0.9,
        max_iter: int = 400,
        rtol: float = 1e-3,
        adjoint: Adjoint = Implicit(),
        on_failure: OnFailure = "warn",
    ) -> None:
        require_in_range("lambda_reg", lambda_reg)
        require_in_range("sigma_denoiser", sigma_denoiser, zero=True)
        if stepsize is None:
            stepsize = 1 / lambda_reg
        super().__init__(stepsize, gamma, eta, max_iter, rtol, adjoint, on_failure)
        if not isinstance(denoiser, GSPnP):
            raise TypeError(
                "denoiser must be a gradient-step denoiser of deepinv (GSDRUNet, "
                f"GSPnP), whose energy is known; got {denoiser!r}. Other denoisers "
                "have none: see deq.optim.PGD. The preset 'gradient-step-pgd' of "
                "deq.plugins.create takes a name."
            )
        self.denoiser = denoiser
        self.data_fidelity = L2() if data_fidelity is None else data_fidelity
        self.sigma_denoiser = float(sigma_denoiser)
        self.lambda_reg = float(lambda_reg)

    def energy(self, y: Tensor, physics: Physics) -> GradientStepEnergy:
        r"""
        Return the energy for a measurement.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :return: (GradientStepEnergy) :math:`F`.
        """
        return GradientStepEnergy(
            self.denoiser,
            self.data_fidelity,
            self.sigma_denoiser,
            self.lambda_reg,
            self.stepsize,
            y,
            physics,
        )
