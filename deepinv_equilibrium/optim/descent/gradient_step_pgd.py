"""The energy of a gradient-step denoiser, for one measurement."""

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
    :math:`F(x) = f(x) + \lambda \frac{\alpha}{2} \|x - N_\sigma(x)\|^2`.

    :param deepinv.models.GSPnP.GSPnP denoiser: has :math:`N` and :math:`\alpha`.
    :param deepinv.optim.DataFidelity data_fidelity: :math:`f`.
    :param float sigma: :math:`\sigma`.
    :param float weight: :math:`\lambda`.
    :param float first_stepsize: :math:`\tau_0`, to which residuals refer.
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
        r""":math:`A^\top y`."""
        return adjoint_image(self.physics, self.y)

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""
        :math:`F(x)`, and :math:`\lambda \nabla g_\sigma(x)` by automatic
        differentiation of the energy itself.

        :param torch.Tensor x: images, of shape :math:`(B, ...)`.
        :return: the energies in float64, of shape :math:`(B,)` and without gradient,
            and the gradients of the prior, recorded where gradients are enabled.
        """
        prior, gradient = value_and_gradient(self._prior, x)
        with torch.no_grad():
            fidelity = self.data_fidelity(x, self.y, self.physics)
        return prior + fidelity.double(), gradient

    def step(self, x: Tensor, gradient: Tensor, tau: Tensor) -> Tensor:
        r"""
        :math:`\operatorname{prox}_{\tau f}(x - \tau \lambda \nabla g_\sigma(x))`.

        :param torch.Tensor x: images.
        :param torch.Tensor gradient: :math:`\lambda \nabla g_\sigma(x)`.
        :param torch.Tensor tau: :math:`\tau`, one a sample, to be broadcast.
        """
        z = x - tau * gradient
        return self.data_fidelity.prox(z, self.y, self.physics, gamma=tau)

    def divergence(self, trial: Tensor, x: Tensor) -> Tensor:
        r""":math:`\|x^+ - x\|^2`."""
        return sample_norms(trial - x).square()

    def residual(self, trial: Tensor, x: Tensor, tau: Tensor) -> Tensor:
        r""":math:`\frac{\tau_0}{\tau} \|x^+ - x\|`, see :class:`Descent
        <deepinv_equilibrium.optim.descent.Descent>`."""
        return sample_norms(trial - x) * self.first_stepsize / tau

    def _prior(self, x: Tensor) -> Tensor:
        r""":math:`\lambda g_\sigma(x)`, summed in float64."""
        gap = x - self.denoiser.student_grad(x, self.sigma)
        factor = 0.5 * self.weight * self.denoiser.alpha
        return factor * gap.double().square().flatten(1).sum(dim=1)


class GradientStepPGD(BacktrackedDescent):
    r"""
    Minimise an energy whose prior is a network's,

    .. math::

        F(x) = f(x) + \lambda g_\sigma(x), \qquad
        g_\sigma(x) = \frac{\alpha}{2} \|x - N_\sigma(x)\|^2,

    by proximal gradient steps of a size found by backtracking,

    .. math::

        T_\tau(x) = \operatorname{prox}_{\tau f}
            \bigl(x - \tau \lambda \nabla g_\sigma(x)\bigr), \qquad
        F(x) - F(T_\tau(x)) \ge \frac{\gamma}{\tau} \|x - T_\tau(x)\|^2,

    with :math:`\tau \leftarrow \eta \tau` until the second holds: the gradient-step
    plug-and-play of :footcite:t:`hurault2022gradient`, for each sample on its own.
    :math:`N` is a network of any size, such as DRUNet, and needs no constraint. For a
    convex :math:`f` and :math:`\nabla g_\sigma` of Lipschitz constant :math:`L` near
    the iterates the condition holds from :math:`\tau \le 2 (1 - \gamma) / (\lambda L)`
    on, so that backtracking ends (the paper's bound
    :math:`(1 - 2\gamma) / (\lambda L)` is for any :math:`f`); the activations of
    :math:`N` must be smooth, as the ELU of :func:`deepinv.models.GSDRUNet` is.

    What this gives is a descent: the energy decreases, and so
    :math:`\min_k \|x_{k+1} - x_k\|^2 \le \tau_0 (F(x_0) - \inf F) / (\gamma m)` after
    :math:`m` steps. It is checked at every step, in the precision of the model, and
    reported in :attr:`~.BacktrackedDescent.solution`. It is neither a contraction nor a
    rate, and critical points need not be unique.

    Gradients reach the network, the measurement and the physics at the solution, a
    fixed point of :math:`T_\tau`, by an adjoint; they cost one evaluation more. The
    energy and its gradient are differentiated here: the ``detach`` of the denoiser,
    which cuts the derivative of its own call off, has no part in it.

    :param deepinv.models.GSPnP.GSPnP, str denoiser: the gradient-step denoiser, of
        which :math:`N` and :math:`\alpha` are used, such as
        ``deepinv.models.GSDRUNet(pretrained="download")``; or the name of one in
        :mod:`deepinv_equilibrium.plugins`.
    :param float sigma_denoiser: :math:`\sigma`, nonnegative. Default: 0.03.
    :param float lambda_reg: :math:`\lambda`, positive. Default: 1.
    :param deepinv.optim.DataFidelity data_fidelity: :math:`f`, convex and with a
        proximal operator. Default: ``None``, :class:`deepinv.optim.L2`.
    :param float stepsize: :math:`\tau_0`, to start from. Default: ``None``,
        :math:`1 / \lambda`, for which :math:`x - \tau\lambda\nabla g_\sigma(x)` is the
        denoiser itself where :math:`\alpha = 1`.
    :param float gamma: :math:`\gamma`, in :math:`(0, 1)`. Default: 0.1.
    :param float eta: :math:`\eta`, in :math:`(0, 1)`. Default: 0.9.
    :param int max_iter: the most trial steps. Default: 400.
    :param float rtol: tolerance on the relative residual, see :class:`Descent
        <deepinv_equilibrium.optim.descent.Descent>`; 0 spends the budget. Default:
        ``1e-3``.
    :param adjoint: gives the solution its gradient. Default: ``Implicit()``.
    :param str on_failure: what to do where a sample does not converge, forward or
        backward: ``"warn"`` (default), ``"raise"`` or ``"ignore"``.
    :raises TypeError: if an argument is of the wrong kind.
    :raises ValueError: if an argument is out of its range.
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
        r""":math:`F` for a measurement."""
        return GradientStepEnergy(
            self.denoiser,
            self.data_fidelity,
            self.sigma_denoiser,
            self.lambda_reg,
            self.stepsize,
            y,
            physics,
        )
