"""Count the images that are denoised while one sample of a batch of eight converges."""

from __future__ import annotations

import torch

from .problem import Problem
from .reconstruct import Reconstruct

BATCH = 8


def batch_of_eight(problem: Problem) -> Problem:
    """Return a problem of seven easy samples and the hard one."""
    return problem.of([0] * (BATCH - 1) + [1])


def start(problem: Problem) -> torch.Tensor:
    """Return an initial image near the solution, and zero for the last sample."""
    init = problem.solution + 1e-4
    init[-1] = 0
    return init


def denoised_images(problem: Problem, method: Reconstruct) -> tuple[int, int]:
    """Return the images that were denoised, and those of a batch that stays together
    until the last sample has converged."""
    with torch.no_grad(), problem.denoiser.counting() as count:
        method(problem.y, start(problem))
    return count.images, BATCH * count.evaluations
