"""A penalty on the Jacobian of an equilibrium model's step."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch
from deepinv.loss import Loss
from deepinv.physics import Physics
from torch import Tensor

from ..certificates.gradients.state_jacobian import StateJacobian
from ..diagnostics.asked_model import fixed_point_problem, refuse_detached
from ..fixed_points import State, Status, Step
from ..fixed_points.adjoints.exclusion import (
    annihilate_zero_cotangents,
    finite_saved_tensors,
)
from ..fixed_points.argument_checks import require_count


class JacobianRegularisation(Loss):
    r"""
    Penalise the local rate of a model's step :math:`f` above a target,

    .. math::

        \lambda \max\bigl(0, \|\partial f(\hat x)\| - t\bigr)^2,

    at the solution :math:`\hat x` that the model has just found, for each sample: what
    Pesquet et al. :footcite:p:`pesquet2021learning` do with a denoiser, done with the
    step whose contraction decides. The norm is estimated from below by a power
    iteration on :math:`J^\top J` that is not recorded; its gradient is that of
    :math:`\langle u, J v\rangle` at the singular vectors found, so that its memory is
    that of one step. The solution counts as a constant.

    The penalty makes the rate smaller at the solutions it sees, and certifies nothing:
    :func:`estimate_rate <deepinv_equilibrium.estimate_rate>` says what was reached.

    A sample whose solve ended ``NONFINITE`` has no Jacobian to penalise: its value is 0
    and it adds nothing to any gradient. So it is where the square of the penalty
    overflows (Adam squares gradients), as it may where a solve diverged. The solve has
    warned of either. Other samples that failed are penalised where the solve left them.

    deepinv's :class:`deepinv.loss.JacobianSpectralNorm` asks for the output and the
    input of a function, and its ``Trainer`` hands losses neither. This one takes what
    the ``Trainer`` gives. It reads ``model.solution``: put losses that call the model
    on other data (equivariance) behind it in the list.

    :param float weight: :math:`\lambda`, positive. Default: 1.
    :param float target: :math:`t`, nonnegative. Default: 0.95.
    :param int power_steps: power iterations, each of two backward passes. Default: 10.
    :raises ValueError: if an argument is out of its range.
    """

    def __init__(
        self, weight: float = 1.0, target: float = 0.95, power_steps: int = 10
    ) -> None:
        super().__init__()
        if not 0 < weight < math.inf:
            raise ValueError(f"weight must be positive and finite, got {weight!r}.")
        if not 0 <= target < math.inf:
            raise ValueError(f"target must be nonnegative and finite, got {target!r}.")
        require_count("power_steps", power_steps, 1)
        self.weight = weight
        self.target = target
        self.power_steps = power_steps

    def forward(
        self,
        x_net: Tensor,
        x: Tensor | None,
        y: Tensor,
        physics: Physics,
        model: Any,
        **kwargs: Any,
    ) -> Tensor:
        r"""
        The penalty of each sample.

        :param torch.Tensor x_net: the reconstruction, not used.
        :param torch.Tensor x: the reference, not used.
        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :param model: the model that was just called on them, an optimiser of
            :mod:`deepinv_equilibrium.optim` with ``DEQ``.
        :return: a tensor of shape :math:`(B,)`, finite.
        :raises TypeError: if the model solves no fixed-point problem.
        :raises ValueError: if it has not been called on this measurement, or its step
            cannot be differentiated.
        """
        excess = self.spectral_norm(y, physics, model) - self.target
        return self.weight * excess.clamp_min(0.0).square()

    def spectral_norm(self, y: Tensor, physics: Physics, model: Any) -> Tensor:
        r"""
        :math:`\|\partial f(\hat x)\|` of each sample, from below, with its gradient in
        what the step closes over; 0, without a gradient, of a sample that has none or
        whose squared penalty overflows. Arguments as in the call.
        """
        model = getattr(model, "module", model)  # of DistributedDataParallel
        step, _ = fixed_point_problem(model, y, physics)
        refuse_detached(model)
        solution = model.solution
        if solution is None or len(solution.status) != len(y):
            raise ValueError(
                "the model's last solution is not that of this measurement of batch "
                f"size {len(y)}: call model(y, physics) first, and put losses that "
                "call the model on other data behind this one."
            )
        excluded = torch.tensor(
            [status is Status.NONFINITE for status in solution.status], device=y.device
        )
        while True:
            norm = self._largest_singular_value(step, solution.x, excluded)
            # What overflows is known only now, and is in the graph: record without it.
            bad = ~torch.isfinite((self.weight * norm.detach().square()).square())
            if not bool(bad.any()):
                return norm
            excluded = excluded | bad

    def _largest_singular_value(self, step: Step, x: State, excluded: Tensor) -> Tensor:
        some = bool(excluded.any())
        with torch.enable_grad(), finite_saved_tensors() if some else nullcontext():
            jacobian = StateJacobian(_constant_where(excluded, step), x)
            if some:
                annihilate_zero_cotangents((jacobian.value,))
            v = _unit(torch.randn_like(jacobian.x))
            for _ in range(self.power_steps):
                u = _unit(jacobian.product(v).detach())
                v = _unit(jacobian.adjoint(u).detach())
            # By now v is J^T u normalised: the value is |J^T u|, and its derivative
            # that of the singular value.
            norm = (jacobian.adjoint(u, create_graph=True) * v).sum(dim=1)
        if some:  # the backward of the products has its own infinite derivatives
            annihilate_zero_cotangents((norm,))
        return norm


def _constant_where(excluded: Tensor, step: Step) -> Step:
    """The step, whose value is 0 whatever the state for the samples excluded."""
    if not bool(excluded.any()):
        return step

    def mask(rows: Tensor) -> Tensor:
        return torch.where(excluded.reshape(-1, *[1] * (rows.ndim - 1)), 0.0, rows)

    def masked(state: State) -> State:
        value = step(state)
        return tuple(map(mask, value)) if isinstance(value, tuple) else mask(value)

    return masked


def _unit(rows: Tensor) -> Tensor:
    size = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    size = torch.where(torch.isfinite(size), size, torch.nan)  # x / inf would hide it
    return rows / torch.where(size == 0, 1.0, size)
