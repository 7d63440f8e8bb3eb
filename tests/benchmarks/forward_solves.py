"""Count the evaluations of the step that each solver needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .problem import Problem
from .reconstruct import Reconstruct

RTOL = 1e-5
MAX_ITER = 300


@dataclass(frozen=True)
class ForwardSolve:
    """
    One solve.

    :param int evaluations: passes of the batch through the denoiser.
    :param float residual: larger relative residual of the two samples of the result.
    """

    evaluations: int
    residual: float

    def __str__(self) -> str:
        if self.evaluations < MAX_ITER:
            return f"{self.evaluations:5d}     residual {self.residual:.1e}"
        return f"never     residual {self.residual:.1e} after {self.evaluations}"


def solve(problem: Problem, reconstruct: Reconstruct) -> ForwardSolve:
    """Solve without gradients and count the evaluations."""
    with torch.no_grad(), problem.denoiser.counting() as count:
        x = reconstruct(problem.y)
    return ForwardSolve(count.evaluations, float(problem.residual(x).max()))


def mean_rate(problem: Problem) -> float:
    """Return the geometric mean of the factors by which Picard's residual decreases
    until it meets the tolerance, for the slower sample."""
    x, residuals = problem.start, list[Tensor]()
    while not residuals or float(residuals[-1]) > RTOL:
        residuals.append(problem.residual(x).max())
        with torch.no_grad():
            x = problem.step(x)
    return float((residuals[-1] / residuals[0]) ** (1 / (len(residuals) - 1)))
