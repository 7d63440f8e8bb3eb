"""The step of a model in the variable of its certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import deepinv_equilibrium as deq

from .dense import jacobian, norm
from .draws import Generator
from .outcomes import VoidError, run
from .random_models import ModelCase


def step_of(case: ModelCase, y: Any) -> Callable[[Tensor], Tensor]:
    """Return the step as a map of one tensor: the image, z of DRS, or x + z of ADMM,
    which determines both."""
    model = case.model
    step, _ = run(model.fixed_point_problem, y, case.physics)
    if not isinstance(model, deq.optim.ADMM):
        return step
    last = model.DEQ.layers - 1
    parameters = model.update_params_fn(last)
    prior = model.update_prior_fn(last)

    def in_v(v: Tensor) -> Tensor:
        # In float64, as the step: a product in float32 would be another coordinate.
        weight, size = (
            torch.as_tensor(parameters[name], dtype=v.dtype)
            for name in ("lambda", "stepsize")
        )
        gamma = weight * size
        x = prior.prox(v, parameters["g_param"], gamma=gamma)
        after = step((x, v - x))
        return after[0] + after[1]

    return in_v


def measurements(case: ModelCase, x: Tensor) -> Any:
    """Return noiseless measurements of images, which have the shape that the model
    expects."""
    with torch.no_grad():
        return run(case.physics.A, x)


def step_jacobians(
    case: ModelCase, rng: Generator, points: int = 2
) -> Iterator[Tensor]:
    """Yield the step's Jacobian at some points."""
    for _ in range(1 if case.is_affine else points):
        x = rng.image(1, *case.size)
        copies = torch.zeros(x.numel(), *case.size, dtype=torch.float64)
        step = step_of(case, measurements(case, copies + rng.image(1, *case.size)))
        single = step_of(case, measurements(case, copies[:1]))

        def function(
            v: Tensor,
            step: Callable[[Tensor], Tensor] = step,
            single: Callable[[Tensor], Tensor] = single,
        ) -> Tensor:
            return single(v) if len(v) == 1 else step(v)

        J = run(jacobian, function, x)
        if not bool(torch.isfinite(J).all()):
            raise VoidError("the step is not finite")
        yield J


def step_norm(case: ModelCase, rng: Generator, points: int = 2) -> float:
    """Return the largest norm of the step's Jacobian at some points."""
    return max(norm(J) for J in step_jacobians(case, rng, points))


def solve(case: ModelCase, y: Any, start: Tensor, rate: float) -> Tensor:
    """Return the model's reconstruction after so many plain iterations that the rest is
    below rounding."""
    model = case.model
    model.DEQ.solver = deq.Picard(max_iter=600, rtol=1e-13)
    model.DEQ.on_failure = "ignore"
    with torch.no_grad():
        return run(model, y, case.physics, init=(start, torch.zeros_like(start)))
