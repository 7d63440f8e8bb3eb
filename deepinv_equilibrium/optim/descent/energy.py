"""What a descent asks of an energy, and its steps as a map with fixed points."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ...equilibrium.measured_physics import MeasuredPhysics
from ...fixed_points import State


class Energy(Protocol):
    r"""
    An energy :math:`F` for one measurement, and the steps :math:`T_\tau` that descend
    on it. All its numbers are in float64 and of shape :math:`(B,)`.
    """

    def start(self) -> Tensor:
        """The first iterate."""

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`F(x)`, without gradient, and what :meth:`step` needs to know of the
        gradient, recorded where gradients are enabled."""

    def step(self, x: Tensor, gradient: Tensor, tau: Tensor) -> Tensor:
        r""":math:`T_\tau(x)`, for one :math:`\tau` a sample, to be broadcast."""

    def divergence(self, trial: Tensor, x: Tensor) -> Tensor:
        r""":math:`D(x^+, x)`, of which a step must decrease the energy by
        :math:`\gamma / \tau`."""

    def residual(self, trial: Tensor, x: Tensor, tau: Tensor) -> Tensor:
        r"""The absolute residual of a step of size :math:`\tau`, of shape
        :math:`(B,)`."""


class EnergyStep:
    r"""
    :math:`T_\tau` as a step: its fixed points are the critical points of the energy.

    :param Energy energy: the energy; where it has a ``domain``, so has the step.
    :param torch.Tensor tau: :math:`\tau`, one a sample, to be broadcast.
    :param MeasuredPhysics measured: its physics, where that is linear.
    """

    def __init__(
        self, energy: Energy, tau: Tensor, measured: MeasuredPhysics | None = None
    ) -> None:
        self.energy, self.tau, self.measured = energy, tau, measured
        domain = getattr(energy, "domain", None)
        if domain is not None:
            self.domain = domain

    def __call__(self, state: State) -> State:
        """The image after the step."""
        assert isinstance(state, Tensor)
        if self.measured is not None and torch.is_grad_enabled():
            self.measured.start_recording()
        _, gradient = self.energy.value_and_gradient(state)
        return self.energy.step(state, gradient, self.tau)
