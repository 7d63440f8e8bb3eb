"""Training that goes on from a checkpoint, for the training scripts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CHECKPOINT_EVERY = 50
LARGEST_GRADIENT = 0.5
RATE_PARAMETERS = 2e-2
"""Learning rate of the logarithms of step sizes and other numbers of an optimiser."""


class Losses:
    """The losses of the steps that are done, as a part of a checkpoint."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the losses."""
        return {"values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set the losses."""
        self.values = list(state["values"])


def resume(checkpoint: Path, parts: Mapping[str, Any]) -> int:
    """Load the states of model, optimiser and others, if there is a checkpoint, and
    return the number of steps that are done."""
    if not checkpoint.exists():
        return 0
    saved = torch.load(checkpoint, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return int(saved["step"])


def save(checkpoint: Path, parts: Mapping[str, Any], step: int) -> None:
    """Write the states after a number of steps. The file is whole at any time."""
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save(states | {"step": step}, checkpoint.with_suffix(".new"))
    checkpoint.with_suffix(".new").rename(checkpoint)


def train(
    model: Any,
    loss: Callable[[int, torch.Generator], Tensor],
    steps: int,
    rate: float,
    checkpoint: Path,
    stop: int | None = None,
) -> list[float]:
    """Train a model in place, or go on from a checkpoint, and return the losses of all
    steps. The loss receives the number of the step and its random numbers. A rate of 0
    keeps the weights of networks, and the numbers of the optimiser are trained alone. A
    training can pause after the step ``stop``."""
    numbers = (
        list(model.params_algo.parameters()) if hasattr(model, "params_algo") else []
    )
    known = {id(parameter) for parameter in numbers}
    weights = [p for p in model.parameters() if id(p) not in known]
    for weight in weights:
        weight.requires_grad_(rate > 0)
    groups = [{"params": weights, "lr": rate}] if rate else []
    if numbers:
        groups.append({"params": numbers, "lr": RATE_PARAMETERS})
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.98))
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [group["lr"] for group in groups],
        total_steps=steps + 1,
        pct_start=0.05,
        cycle_momentum=False,
    )
    losses = Losses()
    parts = {
        "model": model,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "losses": losses,
    }
    last = min(steps, stop or steps)
    model.train()
    for step in range(resume(checkpoint, parts), last):
        # Each step has its own random numbers, so that a run can go on anywhere.
        value = loss(step, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        value.backward()
        # Without a limit, single steps threw the weights far off.
        torch.nn.utils.clip_grad_norm_(weights, LARGEST_GRADIENT)
        optimizer.step()
        scheduler.step()
        losses.values.append(float(value.detach()))
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == last:
            save(checkpoint, parts, step + 1)
            recent = statistics.mean(losses.values[-CHECKPOINT_EVERY:])
            text = f"{checkpoint.stem} {step + 1} loss {recent:.5f}"
            print(f"{text} seconds {time.process_time():.0f}", flush=True)
    return losses.values


def half_precision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with the large ones in half precision, for a small file."""
    return {k: w.half() if w.numel() > 1000 else w for k, w in weights.items()}
