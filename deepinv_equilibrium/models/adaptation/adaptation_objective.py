"""The objective of an adaptation, and copies of the model and physics it changes."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from deepinv.models import Reconstructor
from deepinv.physics import Physics
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def copy_module(module: Module) -> Module:
    r"""
    Return a deep copy of a module, including random number generators.

    ``copy.deepcopy`` refuses the :class:`torch.Generator` of a noise model in older
    versions of torch. The method ``clone`` of deepinv's physics copies generators, but
    visits all objects that can be reached from the physics. Through the globals of its
    functions, these are most objects of the interpreter.

    :param torch.nn.Module module: the module.
    :return: (:class:`torch.nn.Module`) the copy, whose generators have the same states
        as those of the original.
    """
    memo: dict[int, torch.Generator] = {}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Generator):
                generator = torch.Generator(value.device)
                generator.set_state(value.get_state())
                memo[id(value)] = generator
    return copy.deepcopy(module, memo)


class AdaptationObjective:
    r"""
    The three terms of the objective of :func:`deepinv_equilibrium.adapt`, as functions
    of the weights of a model and the parameters of an operator.

    :param deepinv.models.Reconstructor model: a copy of the model. It is changed.
    :param torch.Tensor y: the measurements.
    :param deepinv.physics.Physics physics: a copy of the physics of ``y``. It is
        changed.
    :param list, tuple names: names of the parameters of the physics to adapt.
    :raises TypeError: if ``names`` is not a list of strings.
    :raises ValueError: if no weight requires a gradient, or a name does not belong to a
        real tensor of the physics.
    """

    def __init__(
        self, model: Reconstructor, y: Tensor, physics: Physics, names: Sequence[str]
    ) -> None:
        self.model, self.y, self.physics = model, y, physics
        model.zero_grad(set_to_none=True)
        self.weights = [p for p in model.parameters() if p.requires_grad]
        if not self.weights:
            raise ValueError(
                f"model ({type(model).__name__}) has no weights that require a "
                "gradient; unfreeze the weights to adapt, e.g. by "
                "model.requires_grad_(True)."
            )
        self.operator = _leaves(physics, names)
        self._start = [p.detach().clone() for p in self.weights]
        self._nominal = [p.detach().clone() for p in self.operator.values()]
        self._best = self._start, self._nominal
        self._buffers = self._best_buffers = _buffers(model)

    def discrepancy(self) -> Tensor:
        """Return the mean square residual. This may change buffers of the model, such
        as the statistics of a batch normalisation."""
        self._set_operator(self.operator)
        self._buffers = _buffers(self.model)
        measured = self.physics.A(self.model(self.y, self.physics))
        # Tensors of different shapes could be broadcast, which gives a wrong residual.
        if measured.shape != self.y.shape:
            raise ValueError(
                f"y of shape {tuple(self.y.shape)} is not a measurement of this "
                f"{type(self.physics).__name__}: for the image of model, physics.A "
                f"returns {tuple(measured.shape)}. Give the physics of this "
                "measurement."
            )
        residual = self.y - measured
        return (residual * residual.conj()).real.mean()

    def penalties(self) -> tuple[float, float]:
        """Return the squared distances of the weights and of the parameters of the
        operator from their initial values."""
        operator = list(self.operator.values())
        return (
            _squared_distance(self.weights, self._start),
            _squared_distance(operator, self._nominal),
        )

    def backward(
        self, discrepancy: Tensor, weight: float, physics_weight: float
    ) -> tuple[float, float]:
        r"""
        Compute the gradient of the objective, and store it in the ``grad`` of the
        weights and parameters.

        :param torch.Tensor discrepancy: the first term of the objective.
        :param float weight: the weight :math:`\mu` of the second term.
        :param float physics_weight: the weight :math:`\mu_A` of the third term.
        :return: (tuple) the norms of the gradient in the weights and in the parameters.
        :raises ValueError: if the discrepancy does not depend on the weights, or on a
            parameter.
        """
        operator = list(self.operator.values())
        for p in (*self.weights, *operator):
            p.grad = None
        if discrepancy.requires_grad:
            discrepancy.backward()
        self._require_gradients()
        norms = []
        for tensors, starts, mu in (
            (self.weights, self._start, weight),
            (operator, self._nominal, physics_weight),
        ):
            square = 0.0
            for p, start in zip(tensors, starts, strict=True):
                # A weight that is not used is not changed.
                if p.grad is not None:
                    p.grad += 2 * mu * (p.detach() - start)
                    square += p.grad.square().sum().item()
            norms.append(math.sqrt(square))
        return norms[0], norms[1]

    def _require_gradients(self) -> None:
        if all(p.grad is None for p in self.weights):
            raise ValueError(
                f"model ({type(self.model).__name__}) is not differentiable in its "
                "weights: no gradient reaches them; check whether its forward runs "
                "under torch.no_grad()."
            )
        for name, leaf in self.operator.items():
            if leaf.grad is None:
                raise ValueError(
                    f"physics_parameters has {name!r}, on which A of this "
                    f"{type(self.physics).__name__} does not depend differentiably."
                )

    def keep(self) -> None:
        """Store the current weights and parameters, and the buffers before the last
        evaluation of the discrepancy."""
        self._best_buffers = self._buffers
        self._best = (
            [p.detach().clone() for p in self.weights],
            [p.detach().clone() for p in self.operator.values()],
        )

    def finish(self) -> tuple[Reconstructor, Physics]:
        """Return the model and the physics with the values that :meth:`keep` stored
        last, without gradients."""
        with torch.no_grad():
            for p, value in zip(self.weights, self._best[0], strict=True):
                p.copy_(value)
            _restore(self.model, self._best_buffers)
            best = dict(zip(self.operator, self._best[1], strict=True))
            for name, value in best.items():
                leaf = self.operator[name]
                leaf.copy_(value)
                leaf.grad = None
        self._set_operator(best)
        self.model.zero_grad(set_to_none=True)
        return self.model, self.physics

    def _set_operator(self, values: dict[str, Tensor]) -> None:
        tensors = {
            name: value
            for name, value in values.items()
            if not isinstance(self.operator[name], nn.Parameter)
        }
        # Physics.update would also change noise parameters of the same name.
        if tensors:
            self.physics.update_parameters(**tensors)


def _buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_buffers()}


def _restore(model: nn.Module, buffers: dict[str, Tensor]) -> None:
    for name, value in buffers.items():
        owner, _, own = name.rpartition(".")
        module = model.get_submodule(owner)
        current = getattr(module, own)
        if isinstance(current, Tensor) and current.shape == value.shape:
            current.copy_(value)  # in place, because modules may share the buffer
        else:
            setattr(module, own, value)


def _squared_distance(tensors: list[Tensor], starts: list[Tensor]) -> float:
    return sum(
        (p.detach() - start).square().sum().item()
        for p, start in zip(tensors, starts, strict=True)
    )


def _leaves(physics: Physics, names: Sequence[str]) -> dict[str, Tensor]:
    """Return the parameters of a physics to adapt by their names. Parameters of the
    module are returned themselves, other tensors as copies."""
    if isinstance(names, str):
        raise TypeError(
            "physics_parameters must be a list of names, got the string "
            f"{names!r}; put it in a list."
        )
    own = {**dict(physics.named_buffers()), **dict(physics.named_parameters())}
    # The tensors of submodules, such as the noise model, do not belong to the operator.
    own = {
        name: value
        for name, value in own.items()
        if "." not in name and not name.startswith("_") and value.is_floating_point()
    }
    leaves: dict[str, Tensor] = {}
    if not isinstance(names, Sequence):
        raise TypeError(f"physics_parameters must be a list of names, got {names!r}.")
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                f"physics_parameters must be names, such as 'filter', got {name!r}."
            )
        value = getattr(physics, name, None)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            close = difflib.get_close_matches(name, own, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise ValueError(
                f"physics_parameters has {name!r}, which is not a real tensor of this "
                f"{type(physics).__name__}{hint} It has: {', '.join(own)}."
            )
        if isinstance(value, nn.Parameter):
            leaves[name] = value
        else:
            leaves[name] = value.detach().clone()
        leaves[name].requires_grad_()
    return leaves
