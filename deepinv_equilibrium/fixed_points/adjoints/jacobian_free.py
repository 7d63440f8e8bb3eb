"""Jacobian-free backpropagation and the unrolled phantom gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..argument_checks import require_count
from ..solution import Report
from ..step import PackedStep
from .adjoint import Adjoint
from .recording import Cotangent, Recording


@dataclass(frozen=True)
class JacobianFree(Adjoint):
    r"""
    Backpropagation through the last ``steps`` applications of the step only.

    With :math:`v = \partial \ell / \partial x^*` and one step this is Jacobian-free
    backpropagation :footcite:p:`fung2022jfb`, :math:`v^\top \partial_\theta f`. With
    more steps it is the unrolled phantom gradient :footcite:p:`geng2021training`. At
    the fixed point it equals :class:`Neumann(order=steps - 1)
    <deepinv_equilibrium.Neumann>`. For a :math:`\rho`-contraction, :math:`K` steps
    approximate :math:`(I - J)^{-1}` with an error of at most
    :math:`\rho^{K} / (1 - \rho)`. The descent theorem of the Jacobian-free paper
    assumes that :math:`\partial_\theta f` has full row rank and a condition number near
    1, which no model with only a few scalar parameters satisfies.

    The backward solves no system, so that ``Solution.backward`` is ``None``.

    :param int steps: number :math:`K` of recorded applications, at least 1. Default: 1.
    :raises ValueError: if ``steps`` is less than 1.
    """

    steps: int = 1

    differentiates_iterate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_count("steps", self.steps, 1)

    def record(
        self, step: PackedStep, iterate: Tensor, excluded: Tensor
    ) -> list[Recording]:
        """Record the last evaluation and ``steps - 1`` applications after it."""
        recordings = super().record(step, iterate, excluded)
        with torch.enable_grad():
            for _ in range(self.steps - 1):
                value, output = step(recordings[-1].value)
                recordings.append(replace(recordings[0], value=value, output=output))
        return recordings

    def transform(
        self, recording: Recording, cotangent: Cotangent
    ) -> tuple[Tensor, Report | None]:
        """Return the cotangent of the fixed point unchanged."""
        return cotangent.state, None
