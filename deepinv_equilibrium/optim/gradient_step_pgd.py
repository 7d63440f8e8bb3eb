"""Plug-and-play with an energy: a DRUNet-size model whose descent is checked."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from deepinv.models import Reconstructor
from deepinv.models.GSPnP import GSPnP
from deepinv.optim import L2, DataFidelity
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from .. import plugins
from ..fixed_points import Adjoint, Implicit, OnFailure, Picard, State, fixed_point
from ..fixed_points.failures import check_on_failure, report_failure
from ..fixed_points.solvers.base import require_count, require_number
from .descent import Descent, DescentRecord, describe
from .gradient_step_energy import GradientStepEnergy
from .measured_physics import MeasuredPhysics, adjoint_image


class GradientStepPGD(Reconstructor):
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
    reported in :attr:`solution`. It is neither a contraction nor a rate, and
    critical points need not be unique.

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

    solution: Descent | None
    """Report of the last descent; ``None`` before."""

    def __init__(
        self,
        denoiser: GSPnP | str,
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
        super().__init__()
        if isinstance(denoiser, str):
            denoiser = plugins.create("denoisers", denoiser)
        if not isinstance(denoiser, GSPnP):
            raise TypeError(
                "denoiser must be a gradient-step denoiser of deepinv (GSDRUNet, "
                f"GSPnP), whose energy is known; got {type(denoiser).__name__}. Other "
                "denoisers have none: see deq.optim.PGD."
            )
        if not isinstance(adjoint, Adjoint):
            raise TypeError(f"adjoint must be an Adjoint, got {adjoint!r}.")
        for name, value, upper, least in (
            ("lambda_reg", lambda_reg, math.inf, None),
            ("stepsize", 1.0 if stepsize is None else stepsize, math.inf, None),
            ("gamma", gamma, 1.0, None),
            ("eta", eta, 1.0, None),
            ("sigma_denoiser", sigma_denoiser, math.inf, 0.0),
            ("rtol", rtol, 1.0, 0.0),
        ):
            require_number(name, value)
            if not (0 < value < upper or value == least):
                bracket = "(" if least is None else "["
                raise ValueError(
                    f"{name} must be in {bracket}0, {upper:g}), got {value!r}."
                )
        require_count("max_iter", max_iter, 1)
        check_on_failure(on_failure)
        self.denoiser = denoiser
        self.data_fidelity = L2() if data_fidelity is None else data_fidelity
        self.sigma_denoiser = float(sigma_denoiser)
        self.lambda_reg = float(lambda_reg)
        self.stepsize = 1 / self.lambda_reg if stepsize is None else float(stepsize)
        self.gamma = gamma
        self.eta = eta
        self.max_iter = max_iter
        self.rtol = rtol
        self.adjoint = adjoint
        self.on_failure = on_failure
        self.solution = None

    def energy(self, y: Tensor, physics: Physics) -> GradientStepEnergy:
        r""":math:`F` for a measurement."""
        sigma, weight = self.sigma_denoiser, self.lambda_reg
        return GradientStepEnergy(
            self.denoiser, self.data_fidelity, sigma, weight, y, physics
        )

    def forward(self, y: Tensor, physics: Physics) -> Tensor:
        r"""
        Reconstruct.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :return: the last iterate, whose energy is the least.
        :raises ConvergenceError: if a sample fails and ``on_failure="raise"``.
        """
        if not isinstance(physics, Physics):
            raise TypeError(
                "physics must be a deepinv Physics, as in model(y, physics), got "
                f"{type(physics).__name__}."
            )
        measured = None
        if isinstance(physics, LinearPhysics):
            measured = MeasuredPhysics(physics, y, self.on_failure)
            physics = measured.physics
        energy = self.energy(y, physics)
        with torch.no_grad():
            x, before, records = self._descend(energy)
        self.solution = describe(records, x.device)
        report_failure(self.solution, self.on_failure, "The descent")
        if torch.is_grad_enabled():
            x = self._track(x, before, records, energy, measured)
        if measured is not None:
            measured.report_unfinished()
        return x

    def _descend(
        self, energy: GradientStepEnergy
    ) -> tuple[Tensor, Tensor, list[DescentRecord]]:
        """The last iterate, the one before it, and what was seen on the way."""
        x = before = adjoint_image(energy.physics, energy.y)
        value, gradient = energy.value_and_gradient(x)
        eps = torch.finfo(x.dtype).eps
        records = [
            DescentRecord(self.stepsize, self.gamma, self.eta, self.rtol, eps, [first])
            for first in value.tolist()
        ]
        for _ in range(self.max_iter):
            if not any(record.active for record in records):
                break
            tau = _column(x, [record.stepsize for record in records])
            trial = energy.step(x, gradient, tau)
            value, new = energy.value_and_gradient(trial)
            numbers = torch.stack((value, _norms(trial - x), _norms(trial)), dim=1)
            accepted = [
                record.observe(*row)
                for record, row in zip(records, numbers.tolist(), strict=True)
            ]
            where = _column(x, accepted).bool()
            before = torch.where(where, x, before)
            gradient = torch.where(where, new, gradient)
            x = torch.where(where, trial, x)
        for record in records:
            record.finish()
        return x, before, records

    def _track(
        self,
        x: Tensor,
        before: Tensor,
        records: list[DescentRecord],
        energy: GradientStepEnergy,
        measured: MeasuredPhysics | None,
    ) -> Tensor:
        """The last accepted step again, recorded: its value is the solution."""
        moved = _column(x, [bool(record.history) for record in records]).bool()
        tau = _column(
            x, [r.accepted_stepsize if r.history else r.stepsize for r in records]
        )

        def step(state: State) -> State:
            assert isinstance(state, Tensor)
            if measured is not None and torch.is_grad_enabled():
                measured.start_recording()
            _, gradient = energy.value_and_gradient(state)
            return energy.step(state, gradient, tau)

        solver = Picard(max_iter=1, rtol=0)
        tracked = fixed_point(step, before, solver, self.adjoint, self.on_failure)
        assert self.solution is not None
        assert isinstance(tracked.x, Tensor)
        self.solution = replace(
            self.solution, evaluations=self.solution.evaluations + tracked.evaluations
        )
        return torch.where(moved, tracked.x, x)


def _column(x: Tensor, values: list[Any]) -> Tensor:
    """One number a sample, to be multiplied with images."""
    return torch.tensor(values, dtype=x.dtype, device=x.device).reshape(
        -1, *[1] * (x.ndim - 1)
    )


def _norms(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x.flatten(1), dim=1, dtype=torch.float64)
