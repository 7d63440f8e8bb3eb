"""A penalty on the Jacobian of an equilibrium model's step."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from deepinv.loss import Loss
from deepinv.physics import Physics
from torch import Tensor

from ..certificates.gradients.state_jacobian import StateJacobian
from ..diagnostics.fixed_point_models import fixed_point_problem
from ..fixed_points import State, Status, Step
from ..fixed_points.adjoints.exclusion import (
    annihilate_zero_cotangents,
    finite_saved_tensors,
)
from ..fixed_points.argument_checks import require_count, require_in_range


class JacobianRegularisation(Loss):
    r"""
    Penalise the local rate of a model's step :math:`f` above a target,

    .. math::

        \lambda \max\bigl(0, \|\partial f(\hat x)\| - t\bigr)^2,

    for each sample, at the solution :math:`\hat x` of the model's last call. Pesquet et
    al. :footcite:p:`pesquet2021learning` penalise the denoiser in this way; here it is
    the step, whose contraction decides about convergence. The gradient treats
    :math:`\hat x` as a constant.

    A power iteration on :math:`J^\top J`, :math:`J = \partial f(\hat x)`, estimates the
    norm from below and is not recorded. The gradient of the norm is that of
    :math:`\langle u, J v\rangle` at the singular vectors :math:`u, v` found, so that
    the penalty needs the memory of one step.

    The penalty makes the rate smaller at the solutions of the training data and
    certifies nothing; :func:`estimate_rate <deepinv_equilibrium.estimate_rate>`
    estimates the rate of the trained model.

    The penalty of a sample is 0, without a gradient, if its solve ended ``NONFINITE``
    or if the square of its penalty overflows (Adam squares gradients), which can happen
    if its solve diverged. The solve has already warned of such a sample. Other failed
    samples are penalised at the last iterate of their solve.

    :class:`deepinv.loss.JacobianSpectralNorm` needs the output and the input of a
    function, which deepinv's ``Trainer`` does not pass to losses. This loss needs only
    what the ``Trainer`` passes. It reads ``model.solution``, so losses that call the
    model on other data, such as equivariance, must come after it in the list.

    :param float weight: :math:`\lambda > 0`. Default: 1.
    :param float target: :math:`t \geq 0`. Default: 0.95.
    :param int power_steps: number of power iterations, each of two backward passes.
        Default: 10.
    :raises TypeError: if ``weight`` or ``target`` is not a number.
    :raises ValueError: if an argument is out of its range.
    """

    def __init__(
        self, weight: float = 1.0, target: float = 0.95, power_steps: int = 10
    ) -> None:
        super().__init__()
        require_in_range("weight", weight)
        require_in_range("target", target, zero=True)
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
        Return the penalty of each sample.

        :param torch.Tensor x_net: the reconstruction, not used.
        :param torch.Tensor x: the reference, not used.
        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :param model: the model, just called on ``y`` and ``physics``: a model of this
            package with ``DEQ``, or another one with ``fixed_point_problem(y,
            physics)``, ``DEQ`` and ``solution``.
        :return: finite penalties, of shape :math:`(B,)`.
        :raises TypeError: if the model solves no fixed-point problem.
        :raises ValueError: if the model was built without ``DEQ`` or was not called on
            ``y``, or if its step cannot be differentiated.
        """
        excess = self.spectral_norm(y, physics, model) - self.target
        return self.weight * excess.clamp_min(0.0).square()

    def spectral_norm(self, y: Tensor, physics: Physics, model: Any) -> Tensor:
        r"""
        Return :math:`\|\partial f(\hat x)\|` of each sample, estimated from below.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :param model: the model, as in the call of the loss.
        :return: norms of shape :math:`(B,)`, with a gradient in everything that the
            step closes over; 0, without a gradient, for the samples without a penalty.
        :raises TypeError, ValueError: as the call of the loss.
        """
        model = getattr(model, "module", model)  # of DistributedDataParallel
        step, _ = fixed_point_problem(model, y, physics, differentiable=True)
        solution = model.solution
        if solution is None or len(solution.status) != len(y):
            raise ValueError(
                f"model.solution does not belong to y, of batch size {len(y)}: call "
                "model(y, physics) first, and put losses that call the model on other "
                "data after this one."
            )
        excluded = torch.tensor(
            [status is Status.NONFINITE for status in solution.status], device=y.device
        )
        while True:
            norm = self._largest_singular_value(step, solution.x, excluded)
            # An overflow shows only after the norm was recorded: record it again.
            overflows = ~torch.isfinite((self.weight * norm.detach().square()).square())
            if not bool(overflows.any()):
                return norm
            excluded = excluded | overflows

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
            # As v is the unit vector along J^T u, this value is |J^T u|, and its
            # derivative is that of the singular value.
            norm = (jacobian.adjoint(u, create_graph=True) * v).sum(dim=1)
        if some:  # infinite derivatives arise in the backward of the products too
            annihilate_zero_cotangents((norm,))
        return norm


def _constant_where(excluded: Tensor, step: Step) -> Step:
    """Return a step whose value is 0 for the excluded samples."""
    if not bool(excluded.any()):
        return step

    def mask(rows: Tensor) -> Tensor:
        return torch.where(excluded.reshape(-1, *[1] * (rows.ndim - 1)), 0.0, rows)

    def masked(state: State) -> State:
        value = step(state)
        return tuple(map(mask, value)) if isinstance(value, tuple) else mask(value)

    return masked


def _unit(rows: Tensor) -> Tensor:
    """Normalise each row; a row of infinite norm becomes NaN, a zero row stays 0."""
    size = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    size = torch.where(torch.isfinite(size), size, torch.nan)
    return rows / torch.where(size == 0, 1.0, size)
