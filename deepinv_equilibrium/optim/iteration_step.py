"""Adapter from deepinv's iterators to steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from deepinv.optim import BaseOptim, BurgEntropy, NegEntropy
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from ..certificates.declarations import computes_the_same
from ..equilibrium import Equilibrium
from ..equilibrium.batch_parts import of_samples
from ..equilibrium.distributed_parts import processes_of
from ..equilibrium.measured_physics import MeasuredPhysics
from ..fixed_points import State
from .algorithm_state import AlgorithmState
from .automatic_step_sizes import AutomaticStepSizes
from .contraction.step_intervals import Curvatures


class IterationStep:
    r"""
    A step that makes a block of :math:`K` iterations of a deepinv optimiser.

    :param deepinv.optim.BaseOptim optimiser: the optimiser, with an iterator, and with
        parameters, a prior and a data fidelity for each layer.
    :param AlgorithmState algorithm_state: the components of deepinv's iterates that
        are the state.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param Equilibrium config: contains :math:`K` as ``layers``, and ``on_failure``,
        which applies to iterative proximal operators of the data fidelity.
    """

    def __init__(
        self,
        optimiser: BaseOptim,
        algorithm_state: AlgorithmState,
        y: Tensor,
        physics: Physics,
        config: Equilibrium,
    ):
        self.optimiser = optimiser
        self.algorithm_state = algorithm_state
        self.y = y
        self.measured = (
            MeasuredPhysics(physics, y, config.on_failure)
            if isinstance(physics, LinearPhysics)
            else None
        )
        self.physics = physics if self.measured is None else self.measured.physics
        self.layers = config.layers
        self._config = config
        self.trace: list[dict[str, Any]] | None = None
        potential = getattr(self._iterator, "bregman_potential", None)
        if isinstance(potential, BurgEntropy | NegEntropy):
            self.domain = _positive
        self._processes = processes_of((optimiser, physics))
        self._frozen: dict[int, dict[str, Any]] = {}
        self._curvatures: tuple[Curvatures, ...] = ()

    def keep_step_sizes(self) -> None:
        """Keep the automatic step sizes of the optimiser's current physics, also if the
        optimiser is called with another physics later."""
        step_sizes = self.optimiser.params_algo.get("stepsize")
        if isinstance(step_sizes, AutomaticStepSizes):
            self._curvatures = step_sizes.curvatures

    @property
    def _iterator(self) -> Any:
        return self.optimiser.fixed_point.iterator

    def __call__(self, state: State) -> State:
        """Return the state after the block."""
        return self.algorithm_state.select(self.run(state)["est"])

    def run(self, state: State) -> dict[str, Any]:
        r"""
        Make the :math:`K` iterations. FISTA's counter starts at 0 in each block, so
        that the block is the same map in each application.

        :param torch.Tensor, tuple state: the state.
        :return: (dict) deepinv's iterates after the block.
        """
        if self.measured is not None and torch.is_grad_enabled():
            self.measured.start_recording()
        optimiser = self.optimiser
        X: dict[str, Any] = {
            "est": self.algorithm_state.expand(state),
            "cost": None,
        }
        parameters, shared = self._shared_parameters()
        for layer in range(self.layers):
            X = self._iterator(
                X,
                optimiser.update_data_fidelity_fn(layer),
                optimiser.update_prior_fn(layer),
                parameters[layer],
                self.y,
                self.physics,
            )
            if self.trace is not None:
                self.trace.append(self._priced(X, layer))
        if shared:
            X = {**X, "est": self._processes.anchor(X["est"], shared)}
        return X

    def of_samples(self, rows: Tensor) -> IterationStep | None:
        r"""
        Return the step for some samples of the batch.

        :param torch.Tensor rows: the numbers of the samples, integers.
        :return: (IterationStep) the step; ``None`` if metrics of all samples are asked
            for in each iteration.
        """
        if self.trace is not None:
            return None
        original = self.physics if self.measured is None else self.measured.original
        part = type(self)(
            self.optimiser,
            self.algorithm_state,
            *of_samples(self.y, original, rows),
            self._config,
        )
        part._curvatures = self._curvatures
        return part

    def take_trace(self) -> list[dict[str, Any]]:
        """Return the iterates of the first block since the last call of this method."""
        assert self.trace is not None
        taken, self.trace = self.trace[: self.layers], []
        return taken

    def _shared_parameters(self) -> tuple[list[dict[str, Any]], Sequence[Tensor]]:
        """Return the parameters of all layers, and those whose gradient is averaged
        over the processes that evaluate the step together."""
        parameters = [self._parameters(layer) for layer in range(self.layers)]
        if not (self._processes.cooperate and torch.is_grad_enabled()):
            return parameters, ()
        trained = [
            (values, name)
            for values in parameters
            for name, value in values.items()
            if isinstance(value, Tensor) and value.requires_grad
        ]
        shared = self._processes.share([values[name] for values, name in trained])
        for (values, name), value in zip(trained, shared, strict=True):
            values[name] = value
        return parameters, shared

    def _parameters(self, layer: int) -> dict[str, Any]:
        # Constant during a solve. Values with a graph must not be shared by graphs.
        if torch.is_grad_enabled():
            return self._evaluated(layer)
        if layer not in self._frozen:
            self._frozen[layer] = self._evaluated(layer)
        return self._frozen[layer]

    def _evaluated(self, layer: int) -> dict[str, Any]:
        if self._curvatures:
            self.optimiser.params_algo["stepsize"].curvatures = self._curvatures
        parameters: dict[str, Any] = self.optimiser.update_params_fn(layer)
        # In the precision of the image, in which certificates compute with them.
        return {
            name: _at_least(value, self.y) if isinstance(value, Tensor) else value
            for name, value in parameters.items()
        }

    def _priced(self, X: dict[str, Any], layer: int) -> dict[str, Any]:
        """Return a detached copy of the iterates, with the cost if it is defined."""
        X = {**X, "est": tuple(component.detach() for component in X["est"])}
        optimiser = self.optimiser
        if optimiser.has_cost:
            with torch.no_grad():
                cost = self._iterator.cost_fn(
                    X["est"][0],
                    optimiser.update_data_fidelity_fn(layer),
                    optimiser.update_prior_fn(layer),
                    self._parameters(layer),
                    self.y,
                    self.physics,
                )
            X["cost"] = cost.expand(len(X["est"][0]))
        return X


def _at_least(value: Tensor, y: Tensor) -> Tensor:
    """Return a parameter on the device of y, and not less precise than y."""
    if not value.is_floating_point():
        return value.to(y.device)
    part = y if isinstance(y, Tensor) else y[0]
    return value.to(y.device, torch.promote_types(value.dtype, part.dtype.to_real()))


@computes_the_same
def relax(u: Tensor, v: Tensor, beta: float | Tensor) -> Tensor:
    r"""Return :math:`\beta u + (1 - \beta) v`, without arithmetic if :math:`\beta` is
    the number 1, unlike deepinv."""
    if not isinstance(beta, Tensor) and beta == 1:
        return u
    return beta * u + (1 - beta) * v


def _positive(state: State) -> Tensor:
    """Return whether each sample is in the domain of an entropy: positive images."""
    x = state if isinstance(state, Tensor) else state[0]
    return (x > 0).flatten(1).all(dim=1)


class IterationStepWithOutput(IterationStep):
    """An :class:`IterationStep` whose image is not a component of the state, such as
    Douglas-Rachford, whose state is z, or an optimiser with a custom output."""

    def step_and_output(self, state: State) -> tuple[State, Tensor]:
        """Return the state after the block, and the image from ``get_output``."""
        X = self.run(state)
        return (
            self.algorithm_state.select(X["est"]),
            self.optimiser.get_output(X),
        )


class IterationMetrics:
    """deepinv's metrics of each iteration."""

    def __init__(
        self, optimiser: BaseOptim, start: dict[str, Any], x_gt: Tensor | None
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
