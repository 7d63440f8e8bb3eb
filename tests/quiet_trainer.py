"""deepinv's Trainer, for an epoch on the CPU that prints and stores nothing."""

from __future__ import annotations

from typing import Any

import deepinv as dinv
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader


def train_for_an_epoch(
    model: nn.Module,
    physics: dinv.physics.Physics,
    optimizer: torch.optim.Optimizer,
    pairs: list[dict[str, Tensor]],
    batch_size: int,
    losses: Any = None,
) -> nn.Module:
    """The trained model; on pairs of x and y, by default with the squared error."""
    trainer = dinv.Trainer(
        model,
        physics,
        optimizer,
        DataLoader(pairs, batch_size=batch_size),
        losses=dinv.loss.SupLoss() if losses is None else losses,
        epochs=1,
        device="cpu",
        non_blocking_transfers=False,
        save_path=None,
        show_progress_bar=False,
        verbose=False,
    )
    return trainer.train()
