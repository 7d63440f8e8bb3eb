"""Measure a training step of a TV map: unrolled, restarted and implicit::

    OMP_NUM_THREADS=1 python -m tests.benchmarks.tv_map_training

Run from the root of the repository; the run takes about three minutes. It prints memory
and time for denoising a grey image of 128 x 128 in float32 with the U-Net of
``UNetTVMap``, and those of the map alone. All modes make the same number of iterations.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import deepinv as dinv
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import deepinv_equilibrium as deq

from .memory import allocated_bytes

ITERATIONS = (16, 32, 64, 128, 256)
LAYERS = 8
SIZE = 128
REPETITIONS = 7


def unrolled(iterations: int) -> deq.Equilibrium:
    """Return the model that records all iterations."""
    return deq.Equilibrium(deq.Picard(max_iter=iterations, rtol=0.0), deq.Unrolled())


def retune(iterations: int) -> deq.Equilibrium:
    """Return the model that records the last eight iterations."""
    return deq.ReTune(LAYERS, iterations // LAYERS)


def implicit(iterations: int) -> deq.Equilibrium:
    """Return the model with the gradient of the minimiser, which records none."""
    return deq.Equilibrium(
        deq.Picard(max_iter=iterations, rtol=0.0),
        deq.Implicit(deq.CG(rtol=1e-3, max_iter=1000)),
    )


MODES: Mapping[str, Callable[[int], deq.Equilibrium]] = {
    "unrolled": unrolled,
    f"ReTune(K={LAYERS})": retune,
    "implicit": implicit,
}


def make_step(mode: str, iterations: int) -> Callable[[], None]:
    """Return a training step without an optimiser; for 0 iterations, of the map."""
    torch.manual_seed(0)
    tv_map = deq.models.UNetTVMap(in_channels=1, directions=(0, 0), initial_weight=0.05)
    config = MODES[mode](max(iterations, LAYERS))
    model = deq.models.TVMapReconstructor(tv_map, DEQ=config)
    physics = dinv.physics.Denoising()
    image = deq.datasets.Photos("test", img_size=SIZE)[0]["x"].mean(0)[None, None]
    y = image + 0.1 * torch.randn_like(image)

    def step() -> None:
        model.zero_grad()
        if iterations:
            loss = (model(y, physics) - image).square().mean()
        else:
            loss = model.parameter_map(y, physics).square().mean()
        loss.backward()

    return step


class PeakMemory(TorchDispatchMode):
    """The largest memory that malloc has allocated after any operation of torch.

    Temporary memory of a running operation is not measured."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.bytes = max(self.bytes, allocated_bytes())
        return result


def peak_bytes(step: Callable[[], None]) -> int:
    """Return the peak memory of a training step in bytes, above the memory before it.

    Garbage collection is on, because a dispatch mode leaves reference cycles."""
    step()  # computes the norm of the physics
    gc.collect()
    gc.freeze()
    before = allocated_bytes()
    with PeakMemory() as peak:
        step()
    return peak.bytes - before


def milliseconds(step: Callable[[], None]) -> float:
    """Return the median processor time of seven training steps."""
    step()
    times = []
    for _ in range(REPETITIONS):
        start = time.process_time()
        step()
        times.append(time.process_time() - start)
    return 1e3 * statistics.median(times)


def measure(mode: str, iterations: int) -> tuple[float, float]:
    """Return MiB and milliseconds."""
    step = make_step(mode, iterations)
    return peak_bytes(step) / 2**20, milliseconds(step)


def main() -> None:
    """Run all modes and print the table."""
    torch.set_num_threads(1)
    own, taken = measure("unrolled", 0)
    print(f"The map alone: {own:.1f} MiB, {taken:.0f} ms\n")
    print(f"{'T':>4s}" + "".join(f"{mode:>24s}" for mode in MODES))
    for iterations in ITERATIONS:
        found = [measure(mode, iterations) for mode in MODES]
        cells = (f"{size:12.1f} MiB {ms:5.0f} ms" for size, ms in found)
        print(f"{iterations:4d}" + "".join(cells), flush=True)
    print(f"\nAt T = {iterations}, memory relative to the unrolled step:")
    whole = found[0][0]
    for mode, (size, _) in zip(MODES, found, strict=True):
        print(
            f"{mode:14s} {size / whole:.3f}, "
            f"{(size - own) / (whole - own):.3f} without the map's own"
        )


if __name__ == "__main__":
    main()
