"""Time the bookkeeping of a solve: what is neither the step nor the algorithm."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise

import torch

import deepinv_equilibrium as deq
from deepinv_equilibrium.fixed_points.solvers.monitor import Monitor

EVALUATIONS, ROUNDS = 50, 40


def microseconds(batch_size: int, solver: deq.fixed_points.FixedPointSolver) -> float:
    """Return the median time of recording an evaluation of a batch of small states, of
    which all samples run."""
    iterates = [torch.rand(batch_size, 4)]
    for _ in range(EVALUATIONS):
        iterates.append(0.9 * iterates[-1])
    proposed = torch.ones(batch_size, dtype=torch.bool) if solver.accelerated else None
    times = []
    for _ in range(ROUNDS):
        monitor = Monitor(
            solver, iterates[0], keep_best=solver.accelerated, growth=10.0
        )
        begun = time.perf_counter()
        for x, value in pairwise(iterates):
            monitor.observe(x, value, None, None, proposed)
        times.append((time.perf_counter() - begun) / EVALUATIONS)
    return 1e6 * statistics.median(times)
