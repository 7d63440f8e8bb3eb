"""The images that a model goes through, iteration by iteration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from deepinv.optim import BaseOptim
from deepinv.physics import Physics
from torch import Tensor

from ..fixed_points.solvers.base import require_count


class Iterates:
    r"""
    The images after 1, 2, ..., ``count`` applications of a model's step to its initial
    state, however many it makes itself, without acceleration and without gradient: to
    be iterated over.

    - A model that solves a fixed-point problem (it has ``fixed_point_problem``): its
      step, one block of :attr:`layers` iterations.
    - Another optimiser of deepinv, plain or unfolded: its iteration. Parameters and
      priors of their own for each of its :math:`K` iterations are followed as far as
      they go; those of the last are repeated from there on.

    :param model: the model.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param int count: how many, at least 1.
    :raises TypeError: if the model is neither; what it goes through cannot be known.
    :raises ValueError: if ``count`` is not positive.
    """

    layers: int
    """Iterations between two of the images."""

    def __init__(self, model: Any, y: Tensor, physics: Physics, count: int) -> None:
        require_count("count", count, 1)
        self.model, self.y, self.physics, self.count = model, y, physics, count
        # An optimiser of this package without DEQ is deepinv's own.
        config: Any = getattr(model, "equilibrium", None)
        self._of_step = hasattr(model, "fixed_point_problem") and config is not None
        self.layers = config.layers if self._of_step else 1
        if not self._of_step and not isinstance(model, BaseOptim):
            raise TypeError(
                "model must solve a fixed-point problem (deq.optim.PGD(..., DEQ=...)) "
                f"or be an optimiser of deepinv, got {type(model).__name__}; give "
                "IterationCurve.of the images of its iterations in the place of them."
            )

    def __iter__(self) -> Iterator[Tensor]:
        """The images, as they are asked for."""
        return self._steps() if self._of_step else self._iterations()

    def _steps(self) -> Iterator[Tensor]:
        with torch.no_grad():
            step, state = self.model.fixed_point_problem(self.y, self.physics)
        evaluate = getattr(step, "step_and_output", None)
        for _ in range(self.count):
            with torch.no_grad():
                if evaluate is not None:
                    state, image = evaluate(state)
                else:
                    state = step(state)
                    image = state if isinstance(state, Tensor) else state[0]
            yield image

    def _iterations(self) -> Iterator[Tensor]:
        model, y, physics = self.model, self.y, self.physics
        lengths = [len(values) for values in model.params_algo.values()]
        last = max([*lengths, len(model.prior), len(model.data_fidelity)]) - 1
        with torch.no_grad():
            X = model.init_iterate_fn(y, physics)
        for k in range(self.count):
            layer = min(k, last)
            with torch.no_grad():
                X = model.fixed_point.iterator(
                    X,
                    model.update_data_fidelity_fn(layer),
                    model.update_prior_fn(layer),
                    model.update_params_fn(layer),
                    y,
                    physics,
                )
                image = model.get_output(X)
            yield image
