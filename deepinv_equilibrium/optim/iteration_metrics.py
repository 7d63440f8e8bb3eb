"""deepinv's metrics, iteration by iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from .equilibrium_optim import EquilibriumOptim


class IterationMetrics:
    """deepinv's metrics, iteration by iteration."""

    def __init__(
        self, optimiser: EquilibriumOptim, start: dict[str, Any], x_gt: Tensor | None
    ):
        self.optimiser = optimiser
        self.x_gt = x_gt
        self.previous = start
        self.values = optimiser.init_metrics_fn(start, x_gt=x_gt)

    def extend(self, iterates: list[dict[str, Any]]) -> None:
        """Append the metrics of new iterates."""
        for current in iterates:
            self.optimiser.update_metrics_fn(
                self.values, self.previous, current, x_gt=self.x_gt
            )
            self.previous = current
