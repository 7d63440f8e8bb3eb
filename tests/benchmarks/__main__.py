"""Compare this package with deepinv 0.5 and torchdeq 0.1 on the same problem::

    pip install torchdeq==0.1.0
    OMP_NUM_THREADS=1 python -m tests.benchmarks

Run from the root of the repository; the run takes about eight minutes. It prints the
evaluations of the step for a relative residual of 1e-5, the vector-Jacobian products
for a gradient error of 2e-4, the time of a training step relative to a plain loop, the
memory over 20 training steps, the evaluations of a run without gradients, the change of
an easy sample by a hard one in its batch, the images that are denoised while one sample
of eight converges, the time of bookkeeping, and the images of a training with warm
starts. ``--without-torchdeq`` and ``--without-memory`` omit parts.
"""

from __future__ import annotations

import argparse
import warnings
from functools import partial
from types import ModuleType

import torch

import deepinv_equilibrium as deq

from . import (
    backward_solves,
    batch_mates,
    bookkeeping,
    deepinv_peer,
    forward_solves,
    import_time,
    memory,
    ours,
    slow_sample,
    torchdeq_peer,
    warm_starts,
)
from .problem import Problem, build, for_timing
from .reconstruct import Reconstruct
from .training_time import by_hand, time_ratios

EVALUATIONS, LAYERS, RESTARTS = 20, 5, 4


def main() -> None:
    """Run all benchmarks and print the tables."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--without-torchdeq", action="store_true")
    parser.add_argument("--without-memory", action="store_true")
    parser.add_argument("--rounds", type=int, default=15, help="of the timing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    # deepinv warns that plug-and-play has no cost.
    warnings.filterwarnings("ignore", "No explicit prior has been given")
    libraries: dict[str, ModuleType] = {"ours": ours, "deepinv": deepinv_peer}
    if not args.without_torchdeq:
        torchdeq_peer.installed()
        libraries["torchdeq"] = torchdeq_peer

    problem = build()
    radius = ", ".join(f"{float(r):.4f}" for r in problem.spectral_radius)
    print(f"Problem: 2 x 3 x 64 x 64, float32, spectral radius {radius}")
    print_forward(problem, libraries)
    print_backward(problem, libraries)
    print_inference(problem, libraries)
    print_batch_mates(problem, libraries)
    print_slow_sample(problem, libraries)
    print_bookkeeping()
    print_warm_starts(problem)
    # The overhead of a library is largest relative to a small DnCNN.
    print_times(problem, "the small DnCNN of the problem", args.rounds, libraries)
    rounds = max(args.rounds // 3, 1)
    print_times(for_timing(), "the papers' DnCNN of 17 x 64", rounds, libraries)
    if not args.without_memory:
        print_memory(libraries)
    heading("Seconds that the import adds to that of deepinv")
    print(f"{import_time.added_seconds():.3f}")


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


def row(library: str, method: str, value: object) -> None:
    print(f"{library:9s} {method:39s} {value}", flush=True)


def print_forward(problem: Problem, libraries: dict[str, ModuleType]) -> None:
    heading(f"Evaluations to a relative residual of {forward_solves.RTOL:.0e}")
    for library, module in libraries.items():
        methods: dict[str, Reconstruct] = module.forward_methods(
            problem, forward_solves.RTOL, forward_solves.MAX_ITER
        )
        for name, method in methods.items():
            row(library, name, forward_solves.solve(problem, method))
    rate = forward_solves.mean_rate(problem)
    print(f"Mean factor of Picard's residual per evaluation: {rate:.3f}")


def print_backward(problem: Problem, libraries: dict[str, ModuleType]) -> None:
    heading(f"Products to a gradient error of {backward_solves.TOLERANCE:.0e}")
    true = backward_solves.reference(problem)
    for library, module in libraries.items():
        for name in module.BACKWARD:
            method = partial(module.backward_method, problem, name)
            row(library, name, backward_solves.fewest_products(problem, true, method))


def print_inference(problem: Problem, libraries: dict[str, ModuleType]) -> None:
    heading("Evaluations of an untracked run of 10 steps")
    for library, module in libraries.items():
        solve = forward_solves.solve(problem, module.inference(problem, 10))
        row(library, "", solve.evaluations)


def print_batch_mates(problem: Problem, libraries: dict[str, ModuleType]) -> None:
    heading("An easy sample (a) and a hard one (b) to 1e-4, alone and together")
    for library, module in libraries.items():
        for name in module.forward_methods(problem, 1e-4, forward_solves.MAX_ITER):
            mates = batch_mates.compare(problem, partial(_named, module, name))
            row(
                library,
                name,
                f"{mates.alone_easy:3d} (a), {mates.alone_hard:3d} (b) evaluations "
                f"alone, {mates.together:3d} together; results changed by "
                f"{mates.change_easy:.0e} (a), {mates.change_hard:.0e} (b)",
            )


def _named(module: ModuleType, name: str, problem: Problem) -> Reconstruct:
    methods: dict[str, Reconstruct] = module.forward_methods(
        problem, 1e-4, forward_solves.MAX_ITER
    )
    return methods[name]


def print_slow_sample(problem: Problem, libraries: dict[str, ModuleType]) -> None:
    heading("Denoised images for a batch of seven easy samples and a hard one, to 1e-4")
    eight = slow_sample.batch_of_eight(problem)
    for library, module in libraries.items():
        for name in module.forward_methods(eight, 1e-4, forward_solves.MAX_ITER):
            method = _named(module, name, eight)
            images, together = slow_sample.denoised_images(eight, method)
            row(library, name, f"{images:4d}, {images / together:.2f} of all")


def print_bookkeeping() -> None:
    heading("Microseconds to record an evaluation")
    for solver in (deq.Picard(rtol=1e-9), deq.Anderson(rtol=1e-9)):
        one, many = (bookkeeping.microseconds(size, solver) for size in (1, 256))
        value = f"{one:.0f} (batch 1), {many:.0f} (batch 256), ratio {many / one:.1f}"
        row("ours", type(solver).__name__, value)


def print_warm_starts(problem: Problem) -> None:
    heading("Denoised images in each epoch of an implicit training")
    for rate in warm_starts.RATES:
        for warm in (False, True):
            name = f"{'warm' if warm else 'cold'} starts, rate {rate:g}"
            row("ours", name, warm_starts.images_by_epoch(problem, warm, rate))


def print_times(
    problem: Problem, denoiser: str, rounds: int, libraries: dict[str, ModuleType]
) -> None:
    heading(f"Time of a training step over a loop by hand, {denoiser}")
    loop = by_hand(problem, EVALUATIONS, 1)
    methods = {
        library: module.jacobian_free(problem, EVALUATIONS)
        for library, module in libraries.items()
    }
    ratios, milliseconds = time_ratios(problem, loop, methods, rounds)
    for library, ratio in ratios.items():
        row(library, f"Jacobian-free, {EVALUATIONS} evaluations", f"{ratio:.2f}")
    print(f"the loop takes {milliseconds:.0f} ms")

    loop = by_hand(problem, LAYERS * RESTARTS, LAYERS)
    methods = {"ours": ours.retune(problem, LAYERS, RESTARTS)}
    if "torchdeq" in libraries:
        methods["torchdeq"] = torchdeq_peer.phantom(problem, LAYERS, RESTARTS)
    ratios, milliseconds = time_ratios(problem, loop, methods, rounds)
    for library, ratio in ratios.items():
        name = "ReTune" if library == "ours" else "phantom gradient"
        row(library, f"{name}, {LAYERS} x {RESTARTS}", f"{ratio:.2f}")
    print(f"the loop takes {milliseconds:.0f} ms")


def print_memory(libraries: dict[str, ModuleType]) -> None:
    heading(f"Memory over {memory.STEPS} implicit training steps, collector off")
    for library in libraries:
        used = memory.measure(library)
        row(
            library,
            "",
            f"live tensors {used.tensors / 2**20:+8.2f} MiB, "
            f"allocated {used.allocated / 2**20:+8.2f} MiB, "
            f"peak {used.peak / 2**20:+8.2f} MiB",
        )


if __name__ == "__main__":
    main()
