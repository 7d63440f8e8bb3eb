"""The protocol of an energy, and its descent step as a step with fixed points."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ...equilibrium.measured_physics import MeasuredPhysics
from ...fixed_points import State


class Energy(Protocol):
    r"""
    An energy :math:`F` for one measurement, with steps :math:`T_\tau` that decrease it.
    Values, divergences and residuals are in float64 and of shape :math:`(B,)`.
    """

    def start(self) -> Tensor:
        """Return the first iterate."""

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return :math:`F(x)`, without gradient, and the part of the gradient that
        :meth:`step` needs, recorded if gradients are enabled."""

    def step(self, x: Tensor, gradient: Tensor, tau: Tensor) -> Tensor:
        r"""Return :math:`T_\tau(x)`; :math:`\tau` has one value a sample and
        broadcasts to ``x``."""

    def divergence(self, trial: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`D(x^+, x)`. An accepted step decreases the energy by at least
        :math:`\gamma D(x^+, x) / \tau`."""

    def residual(self, trial: Tensor, x: Tensor, tau: Tensor) -> Tensor:
        r"""Return the absolute residual of a step of size :math:`\tau`."""


class EnergyStep:
    r"""
    The step :math:`T_\tau`. Its fixed points are the critical points of the energy.

    :param Energy energy: the energy. If it has a ``domain``, the step has the same.
    :param torch.Tensor tau: :math:`\tau`, one value a sample, broadcastable to images.
    :param MeasuredPhysics measured: the physics of the energy, if it is linear.
    """

    def __init__(
        self, energy: Energy, tau: Tensor, measured: MeasuredPhysics | None = None
    ) -> None:
        self.energy, self.tau, self.measured = energy, tau, measured
        domain = getattr(energy, "domain", None)
        if domain is not None:
            self.domain = domain

    def __call__(self, state: State) -> State:
        """Return the image after the step."""
        assert isinstance(state, Tensor)
        if self.measured is not None and torch.is_grad_enabled():
            self.measured.start_recording()
        _, gradient = self.energy.value_and_gradient(state)
        return self.energy.step(state, gradient, self.tau)
