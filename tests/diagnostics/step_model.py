"""A model made of a given step, for tests with steps whose fixed points are known."""

from __future__ import annotations

from typing import Any

import deepinv as dinv
from torch import Tensor

import deepinv_equilibrium as deq

PHYSICS = dinv.physics.Denoising()


class StepModel:
    """Has the method and the attribute that every diagnostic needs, and no more."""

    def __init__(self, step: Any, x0: Any, DEQ: deq.Equilibrium | None = None) -> None:
        self.step, self.x0 = step, x0
        self.DEQ = DEQ or deq.Equilibrium(
            deq.Anderson(rtol=1e-12, max_iter=300), on_failure="raise"
        )

    def fixed_point_problem(self, y: Tensor, physics: Any) -> Any:
        return self.step, self.x0
