"""Measure memory and time of large images and volumes::

    OMP_NUM_THREADS=1 python -m tests.benchmarks.large_images

Each row is a process of its own. The memory is the peak of the process above what it
needs before the measurement is made, in MiB and in images (an image of three channels
of 1024 x 1024 pixels in float32 has 12 MiB). A solve makes three evaluations.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import deepinv as dinv
import torch

import deepinv_equilibrium as deq

EVALUATIONS = 3


@dataclass(frozen=True)
class Usage:
    """
    What a case needs.

    :param float mebibytes: peak memory.
    :param float images: the same, in images.
    :param float seconds: process time.
    """

    mebibytes: float
    images: float
    seconds: float


def denoiser(name: str) -> Any:
    """Return a denoiser of colour images."""
    if name == "certified":
        return deq.models.ConvexPotentialDenoiser(3, contraction=0.9)
    return deq.models.SmallDRUNet()


def model_of(name: str, history: int) -> Any:
    """Return a model with Anderson acceleration, or Picard without a history."""
    budget: dict[str, Any] = {"max_iter": EVALUATIONS, "rtol": 0.0}
    solver: Any = deq.Picard(**budget)
    if history:
        # The history is allocated for max_iter evaluations at most.
        solver = deq.Anderson(history_size=history, max_iter=history, rtol=0.0)
    return deq.optim.PGD(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(denoiser(name)),
        stepsize=1.0,
        sigma_denoiser=0.05,
        trainable_params=["stepsize"],
        DEQ=deq.Equilibrium(solver, deq.JacobianFree(), on_failure="ignore"),
    )


def blur(side: int) -> Any:
    """Return a circular blur."""
    kernel = dinv.physics.blur.gaussian_blur(sigma=1.6)
    return dinv.physics.BlurFFT((3, side, side), filter=kernel)


def solve(name: str, side: int, history: int) -> Callable[[], None]:
    model, physics, y = (
        model_of(name, history),
        blur(side),
        torch.rand(1, 3, side, side),
    )

    def run() -> None:
        with torch.no_grad():
            model(y, physics)

    return run


def train(name: str, side: int, history: int) -> Callable[[], None]:
    model, physics, y = (
        model_of(name, history),
        blur(side),
        torch.rand(1, 3, side, side),
    )
    return lambda: model(y, physics).square().mean().backward()


def certify(name: str, side: int, history: int) -> Callable[[], None]:
    model, physics = model_of(name, history), blur(side)

    def run() -> None:
        deq.certify(model, physics, (3, side, side))

    return run


def volume(name: str, side: int, history: int) -> Callable[[], None]:
    model = deq.plugins.create(
        "reconstructors",
        "tv-map",
        constant=True,
        directions=(0, 0, 0),
        max_iter=EVALUATIONS,
    )
    physics, y = dinv.physics.Denoising(), torch.rand(1, 1, side, side, side)

    def run() -> None:
        with torch.no_grad():
            model(y, physics)

    return run


KINDS = {"solve": solve, "training step": train, "certify": certify, "volume": volume}
CASES = [
    *(("solve", "certified", side, 0) for side in (256, 512, 1024)),
    ("solve", "certified", 1024, 3),
    ("solve", "certified", 1024, 10),
    ("training step", "certified", 1024, 0),
    ("certify", "certified", 1024, 0),
    ("solve", "small DRUNet", 1024, 0),
    ("training step", "small DRUNet", 512, 0),
    ("volume", "total variation", 96, 0),
]


def measure(kind: str, name: str, side: int, history: int) -> Usage:
    """Measure a case in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure_here, kind, name, side, history).result()


def _measure_here(kind: str, name: str, side: int, history: int) -> Usage:
    torch.set_num_threads(1)
    small = KINDS[kind](name, 32, history)
    small()  # what is imported and compiled at the first call
    run = KINDS[kind](name, side, history)
    before, begun = _peak(), time.process_time()
    run()
    mebibytes = _peak() - before
    pixels = side**3 if kind == "volume" else 3 * side**2
    image = 4 * pixels / 2**20
    return Usage(mebibytes, mebibytes / image, time.process_time() - begun)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure all cases and print the table."""
    for kind, name, side, history in CASES:
        used = measure(kind, name, side, history)
        text = f"{kind}, {name}, {side}, history {history}"
        print(
            f"{text:48s} {used.mebibytes:7.0f} MiB {used.images:6.1f} images "
            f"{used.seconds:6.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
