"""TODO."""

from __future__ import annotations

from typing import Any

from deepinv.models.GSPnP import GSPnP
from deepinv.physics import Physics
from torch import Tensor, nn

from ..fixed_points import State, Step


def fixed_point_problem(model: Any, y: Tensor, physics: Physics) -> tuple[Step, State]:
    """The step and the initial state of a model; others are refused by name."""
    if not hasattr(model, "fixed_point_problem"):
        raise TypeError(
            "model must be one that solves a fixed-point problem, such as "
            f"deq.optim.PGD(..., DEQ=...); got {type(model).__name__}."
        )
    step, x0 = model.fixed_point_problem(y, physics)
    return step, x0


def refuse_detached(model: Any) -> None:
    """Refuse denoisers whose derivative is not that of their values."""
    for name, module in model.named_modules() if isinstance(model, nn.Module) else ():
        if isinstance(module, GSPnP) and module.detach:
            raise ValueError(
                f"the gradient-step denoiser {name!r} cuts its own derivative off; set "
                "its attribute detach to False."
            )
