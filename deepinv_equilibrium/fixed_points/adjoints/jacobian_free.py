"""Jacobian-free backpropagation and the unrolled phantom gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..argument_checks import require_count
from ..failures import OnFailure
from ..solution import BackwardSlot
from ..solvers.monitor import Monitor
from ..step import PackedStep
from .adjoint import Adjoint
from .gate import Recording, Transform, identity


@dataclass(frozen=True)
class JacobianFree(Adjoint):
    r"""
    Backpropagation through the last ``steps`` applications of the step only.

    With :math:`v = \partial \ell / \partial x^*` and one step this is Jacobian-free
    backpropagation :footcite:p:`fung2022jfb`, :math:`v^\top \partial_\theta f`; with
    more, the unrolled phantom gradient :footcite:p:`geng2021training`. At the fixed
    point it equals :class:`Neumann(order=steps - 1)
    <deepinv_equilibrium.Neumann>`; for a :math:`\rho`-contraction the error of
    :math:`(I - J)^{-1}` is at most :math:`\rho^{K} / (1 - \rho)` with :math:`K` steps.
    The descent theorem of the Jacobian-free paper asks for a :math:`\partial_\theta f`
    of full row rank and condition number near 1, which a model with a few scalar
    parameters never has.

    No system is solved in the backward, and none is reported.

    :param int steps: applications :math:`K` that are recorded, at least 1. Default: 1.
    :raises ValueError: if ``steps`` is less than 1.
    """

    steps: int = 1

    differentiates_iterate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_count("steps", self.steps, 1)

    def record(
        self, step: PackedStep, iterate: Tensor, excluded: Tensor
    ) -> list[Recording]:
        """The value and ``steps - 1`` applications after it."""
        recordings = super().record(step, iterate, excluded)
        with torch.enable_grad():
            for _ in range(self.steps - 1):
                value, output = step(recordings[-1].value)
                recordings.append(Recording(value, output, iterate, excluded))
        return recordings

    def transform(
        self, monitor: Monitor, slot: BackwardSlot, on_failure: OnFailure
    ) -> Transform:
        """The identity."""
        return identity
