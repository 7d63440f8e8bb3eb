"""Measure the memory over training steps without garbage collection."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context

import torch

from . import deepinv_peer, ours, torchdeq_peer
from .problem import Problem, build
from .reconstruct import Reconstruct

STEPS = 20
WARM_UP = 3
LIBRARIES = {"ours": ours, "deepinv": deepinv_peer, "torchdeq": torchdeq_peer}


@dataclass(frozen=True)
class Memory:
    """
    Memory of a process that trains, in bytes above the memory before the steps.

    :param int tensors: storages of the tensors that Python objects hold after the
        steps.
    :param int allocated: memory allocated by malloc after the steps, including memory
        that only the autograd graph holds.
    :param int peak: largest allocated memory at an evaluation or product of the
        denoiser.
    """

    tensors: int
    allocated: int
    peak: int


def live_tensor_bytes() -> int:
    """Return the bytes in the storages of all tensors that Python objects hold, without
    a garbage collection."""
    storages: dict[int, int] = {}
    for thing in gc.get_objects():
        # Compilers leave tensors of special types without data.
        if type(thing) in (torch.Tensor, torch.nn.Parameter):
            # The wrapper tensors of torch.func have no storage.
            with suppress(NotImplementedError):
                storage = thing.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


@contextmanager
def no_collection() -> Iterator[None]:
    """Collect once, then switch the collection of reference cycles off."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def train(problem: Problem, reconstruct: Reconstruct, steps: int) -> None:
    """Make training steps with a learning rate of 0, so that all steps are equal."""
    optimizer = torch.optim.SGD(problem.weights, lr=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        problem.loss(reconstruct(problem.y)).backward()
        optimizer.step()


def measure(library: str) -> Memory:
    """Train with implicit gradients in a separate process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure_here, library).result()


def _measure_here(library: str) -> Memory:
    torch.set_num_threads(1)
    problem = build()
    reconstruct = LIBRARIES[library].implicit(problem)
    train(problem, reconstruct, WARM_UP)
    most = 0

    def watch(*_: object) -> None:
        nonlocal most
        most = max(most, allocated_bytes())

    def watch_both_ways(module: object, inputs: object, output: torch.Tensor) -> None:
        watch()
        if output.requires_grad:
            output.register_hook(watch)

    hook = problem.denoiser.register_forward_hook(watch_both_ways)
    with no_collection():
        tensors, allocated = live_tensor_bytes(), allocated_bytes()
        train(problem, reconstruct, STEPS)
        left = live_tensor_bytes() - tensors, allocated_bytes() - allocated
    hook.remove()
    return Memory(*left, most - allocated)


class _MallocInfo(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def allocated_bytes() -> int:
    r"""
    :return: bytes that malloc has allocated and not freed, including storages of torch.
    :raises RuntimeError: if the C library is not glibc 2.33 or later.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        raise RuntimeError(
            "the memory benchmark asks glibc (2.33 or later, on Linux) what is "
            "allocated; leave it out with --without-memory."
        )
    library.mallinfo2.restype = _MallocInfo
    info = library.mallinfo2()
    return int(info.uordblks + info.hblkhd)
