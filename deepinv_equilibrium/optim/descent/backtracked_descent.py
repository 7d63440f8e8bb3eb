"""The base class of models that decrease an energy by steps with backtracking."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import torch
from deepinv.models import Reconstructor
from deepinv.optim import DataFidelity, StackedPhysicsDataFidelity
from deepinv.physics import LinearPhysics, Physics
from deepinv.utils import TensorList
from torch import Tensor

from ...certificates.gradients.step_jacobians import sample_norms
from ...equilibrium.input_checks import (
    measured_image,
    require_image_axes,
    require_measurement,
    require_physics,
)
from ...equilibrium.measured_physics import MeasuredPhysics
from ...fixed_points import Adjoint, OnFailure, attach_gradient
from ...fixed_points.argument_checks import require_count, require_in_range
from ...fixed_points.failures import check_on_failure, report_failure
from .descent_report import Descent, DescentRecord, describe
from .energy import Energy, EnergyStep


class BacktrackedDescent(Reconstructor, ABC):
    r"""
    Base class of the models that decrease an energy by steps with backtracking: for
    each sample, :math:`\tau \leftarrow \eta \tau` until

    .. math::

        F(x) - F(T_\tau(x)) \ge \frac{\gamma}{\tau} D(T_\tau(x), x) .

    The descent is not recorded. An adjoint differentiates the last accepted step, which
    is evaluated once more with gradients.

    :param float stepsize: initial :math:`\tau`, positive.
    :param float gamma: :math:`\gamma`, in :math:`(0, 1)`.
    :param float eta: :math:`\eta`, in :math:`(0, 1)`.
    :param int max_iter: largest number of trial steps.
    :param float rtol: tolerance on the relative residual, in :math:`[0, 1)`; with 0 all
        trial steps are made.
    :param deepinv_equilibrium.fixed_points.Adjoint adjoint: how the solution is
        differentiated.
    :param str on_failure: what to do if a sample does not converge: ``"warn"``,
        ``"raise"`` or ``"ignore"``.
    :raises TypeError: if an argument has a wrong type.
    :raises ValueError: if an argument is out of range.
    """

    spatial_axes: ClassVar[tuple[int, ...]] = (2, 3)
    """Numbers of spatial axes of the images that the model accepts."""

    data_fidelity: DataFidelity
    """The data fidelity :math:`f`."""

    solution: Descent | None
    """Report of the last descent; ``None`` before the first one."""

    def __init__(
        self,
        stepsize: float,
        gamma: float,
        eta: float,
        max_iter: int,
        rtol: float,
        adjoint: Adjoint,
        on_failure: OnFailure,
    ) -> None:
        super().__init__()
        if not isinstance(adjoint, Adjoint):
            raise TypeError(f"adjoint must be an Adjoint, got {adjoint!r}.")
        require_in_range("stepsize", stepsize)
        require_in_range("gamma", gamma, upper=1.0)
        require_in_range("eta", eta, upper=1.0)
        require_in_range("rtol", rtol, upper=1.0, zero=True)
        require_count("max_iter", max_iter, 1)
        check_on_failure(on_failure)
        self.stepsize = float(stepsize)
        self.gamma = gamma
        self.eta = eta
        self.max_iter = max_iter
        self.rtol = rtol
        self.adjoint = adjoint
        self.on_failure = on_failure
        self.solution = None

    @abstractmethod
    def energy(self, y: Tensor, physics: Physics) -> Energy:
        r"""
        Return the energy for a measurement.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :return: (Energy) :math:`F`.
        """

    def forward(self, y: Tensor, physics: Physics) -> Tensor:
        r"""
        Reconstruct.

        :param torch.Tensor y: the measurement.
        :param deepinv.physics.Physics physics: its physics.
        :return: the last iterate, whose energy is the least.
        :raises TypeError: if ``y`` is not a floating-point tensor, ``physics`` is not a
            physics, or ``y`` is a list of measurements and the data fidelity takes one.
        :raises ValueError: if ``y`` is not a measurement of ``physics``.
        :raises ConvergenceError: if a sample fails and ``on_failure="raise"``.
        """
        require_physics(physics, y)
        require_measurement(y)
        if isinstance(y, TensorList) and not isinstance(
            self.data_fidelity, StackedPhysicsDataFidelity
        ):
            raise TypeError(
                "y is a TensorList, of which "
                f"{type(self.data_fidelity).__name__} has no value: give data_fidelity="
                "deepinv.optim.StackedPhysicsDataFidelity([...]), with one data "
                "fidelity for each measurement."
            )
        measured = None
        if isinstance(physics, LinearPhysics):
            with torch.no_grad():
                require_image_axes(measured_image(y, physics), self.spatial_axes)
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

    def _descend(self, energy: Energy) -> tuple[Tensor, Tensor, list[DescentRecord]]:
        """Return the last two iterates, and the record of each sample."""
        x = before = energy.start()
        value, gradient = energy.value_and_gradient(x)
        eps = torch.finfo(x.dtype).eps
        records = [
            DescentRecord(self.stepsize, self.gamma, self.eta, self.rtol, eps, [first])
            for first in value.tolist()
        ]
        for _ in range(self.max_iter):
            if not any(record.active for record in records):
                break
            sizes = [record.stepsize for record in records]
            trial = energy.step(x, gradient, _column(x, sizes))
            value, new = energy.value_and_gradient(trial)
            numbers = torch.stack(
                (
                    value,
                    energy.divergence(trial, x),
                    energy.residual(trial, x, value.new_tensor(sizes)),
                    sample_norms(trial),
                ),
                dim=1,
            )
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
        energy: Energy,
        measured: MeasuredPhysics | None,
    ) -> Tensor:
        """Evaluate the last accepted step again, with gradient."""
        moved = _column(x, [bool(record.history) for record in records]).bool()
        tau = _column(
            x, [r.accepted_stepsize if r.history else r.stepsize for r in records]
        )
        step = EnergyStep(energy, tau, measured)
        tracked = attach_gradient(step, before, self.adjoint, self.on_failure)
        assert self.solution is not None
        assert isinstance(tracked.x, Tensor)
        self.solution = replace(
            self.solution, evaluations=self.solution.evaluations + tracked.evaluations
        )
        return torch.where(moved, tracked.x, x)


def _column(x: Tensor, values: list[Any]) -> Tensor:
    """Return one number a sample, broadcastable to images."""
    return torch.tensor(values, dtype=x.dtype, device=x.device).reshape(
        -1, *[1] * (x.ndim - 1)
    )
