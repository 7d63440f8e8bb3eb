"""Time of a training step beside that of a loop written by hand."""

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
    The loop that one would write: ``tracked`` evaluations recorded after all others
    without gradients, and :math:`A^\top y` computed once where it can be.
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
    Processor time of a training step, forward and backward, over that of the loop.

    In every round each method is timed once, between the loop before and after it, so
    that what slows the machine slows both; the median over the rounds is reported.

    :param Problem problem: the problem.
    :param Callable loop: the loop written by hand.
    :param dict methods: what is compared with it.
    :param int rounds: repetitions.
    :return: the ratio of each method, and the milliseconds of the loop.
    :raises RuntimeError: if a method calls the denoiser more or less often than the
        loop does.
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
