"""Measure how a hard sample changes the result of an easy one in its batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .problem import Problem
from .reconstruct import Reconstruct


@dataclass(frozen=True)
class BatchMates:
    """
    A hard sample, started at zero, and an easy one, started near its solution.

    :param int alone_easy: evaluations of the easy sample alone.
    :param int alone_hard: evaluations of the hard sample alone.
    :param int together: evaluations of the batch of both.
    :param float change_easy: relative change of the result of the easy sample by the
        hard one.
    :param float change_hard: relative change of the result of the hard sample by the
        easy one.
    """

    alone_easy: int
    alone_hard: int
    together: int
    change_easy: float
    change_hard: float


def compare(problem: Problem, method: Callable[[Problem], Reconstruct]) -> BatchMates:
    """Solve for both samples together and for each alone."""
    easy = problem.solution[:1] + 1e-4
    init = torch.cat([easy, torch.zeros_like(easy)])
    together, count = _run(problem, method, init)
    first, alone_easy = _run(problem.of([0]), method, init[:1])
    second, alone_hard = _run(problem.of([1]), method, init[1:])
    return BatchMates(
        alone_easy,
        alone_hard,
        count,
        float((together[0] - first[0]).norm() / first.norm()),
        float((together[1] - second[0]).norm() / second.norm()),
    )


def _run(
    problem: Problem, method: Callable[[Problem], Reconstruct], init: torch.Tensor
) -> tuple[torch.Tensor, int]:
    with torch.no_grad(), problem.denoiser.counting() as count:
        x = method(problem)(problem.y, init)
    return x, count.evaluations
