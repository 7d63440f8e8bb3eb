"""Processes that a server forks, which has imported the package once for all."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any


def exit_codes(
    work: Callable[..., None], arguments: list[tuple[Any, ...]]
) -> list[Any]:
    """Run a function in one process for each tuple of arguments, and return how the
    processes ended."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["pytest", "deepinv_equilibrium", "deepinv.distributed"]
    )
    processes = [context.Process(target=work, args=args) for args in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        process.kill()
    return [process.exitcode for process in processes]
