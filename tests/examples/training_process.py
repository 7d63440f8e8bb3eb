"""One process of the distributed training, started by name."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_distributed.py"
SETTINGS = ["--steps", "3", "--size", "32", "--save-every", "1", "--log-every", "2"]


def example() -> Any:
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("train_distributed", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def work(rank: int, count: int, port: int, arguments: list[str], kill: int) -> None:
    """Train as one of some processes, and die after ``kill`` steps if it is not 0."""
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    script = example()
    dist.init_process_group("gloo")

    def after_step(made: int) -> None:
        if made == kill:
            os._exit(3)  # as a signal would end it, without a clean-up

    script.train(script.parse([*SETTINGS, *arguments]), after_step)
    dist.destroy_process_group()
