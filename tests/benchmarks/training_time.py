"""Compare the time of a training step with that of a plain loop."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

import torch
from torch import Tensor

from .problem import STEPSIZE, Problem
from .reconstruct import Reconstruct


def by_hand(problem: Problem, evaluations: int, tracked: int) -> Reconstruct:
    r"""
    Return the plain loop: all evaluations but the last ``tracked`` are made without
    gradients, and :math:`A^\top y` is computed once if possible.
    """
    physics, denoiser = problem.physics, problem.denoiser

    def step(x: Tensor, back: Tensor) -> Tensor:
        return denoiser(x - STEPSIZE * (physics.A_adjoint_A(x) - back))

    def reconstruct(y: Tensor, init: Tensor | None = None) -> Tensor:
        back = physics.A_adjoint(y)
        with torch.no_grad():
            x = back if init is None else init
            for _ in range(evaluations - tracked):
                x = step(x, back)
        for _ in range(tracked):
            x = step(x, back)
        return x

    return reconstruct


def time_ratios(
    problem: Problem,
    loop: Reconstruct,
    methods: Mapping[str, Reconstruct],
    rounds: int,
) -> tuple[dict[str, float], float]:
    r"""
    Return the processor time of a training step relative to the plain loop.

    In each round every method is timed once, between two runs of the loop, so that
    other load of the machine affects both. The median over the rounds is reported.

    :param Problem problem: the problem.
    :param Callable loop: the plain loop.
    :param dict methods: the methods that are compared with the loop.
    :param int rounds: repetitions.
    :return: the ratio of each method, and the milliseconds of the loop.
    :raises RuntimeError: if the numbers of calls of the denoiser by a method and by
        the loop differ.
    """
    expected = _evaluations(problem, loop)
    for name, method in methods.items():
        made = _evaluations(problem, method)
        if made != expected:
            raise RuntimeError(f"{name}: {made} evaluations where {expected} are due.")
    ratios: dict[str, list[float]] = {name: [] for name in methods}
    loops = []
    for _ in range(rounds):
        before = _seconds(problem, loop)
        for name, method in methods.items():
            taken = _seconds(problem, method)
            after = _seconds(problem, loop)
            ratios[name].append(2 * taken / (before + after))
            loops.append(after)
            before = after
    medians = {name: statistics.median(values) for name, values in ratios.items()}
    return medians, 1e3 * statistics.median(loops)


def _evaluations(problem: Problem, method: Reconstruct) -> int:
    with problem.denoiser.counting() as count:
        method(problem.y)
    return count.evaluations


def _seconds(problem: Problem, method: Reconstruct) -> float:
    start = time.process_time()
    loss = problem.loss(method(problem.y))
    torch.autograd.grad(loss, problem.weights)
    return time.process_time() - start
