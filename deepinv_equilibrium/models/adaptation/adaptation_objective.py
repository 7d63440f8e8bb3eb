"""Copies of modules that hold random number generators."""

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
    A deep copy. ``copy.deepcopy`` refuses the :class:`torch.Generator` of a noise
    model in older versions of torch; ``clone`` of deepinv's physics copies it too, but
    looks at every object that can be reached from the physics, through the globals of
    its functions most of the interpreter.

    :param torch.nn.Module module: the module.
    :return: (:class:`torch.nn.Module`) the copy, with generators of its own in the same
        states.
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
    The three terms that :func:`deepinv_equilibrium.adapt` weighs, as functions of the
    weights of a model and the parameters of an operator.

    :param deepinv.models.Reconstructor model: the model, which is changed: a copy.
    :param torch.Tensor y: measurements.
    :param deepinv.physics.Physics physics: their physics, likewise a copy.
    :param list, tuple names: of its parameters.
    :raises TypeError: if ``names`` is no list of strings.
    :raises ValueError: if there is nothing to adapt, or the physics has no tensor of a
        name.
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
                "gradient; unfreeze those that are to be adapted: "
                "model.requires_grad_(True)."
            )
        self.operator = _leaves(physics, names)
        self._start = [p.detach().clone() for p in self.weights]
        self._nominal = [p.detach().clone() for p in self.operator.values()]
        self._kept = self._start, self._nominal
        self._buffers = self._kept_buffers = _buffers(model)

    def discrepancy(self) -> Tensor:
        """The mean square residual. It may change buffers of the model, such as the
        statistics of a batch normalisation."""
        self._set_operator(self.operator)
        self._buffers = _buffers(self.model)
        measured = self.physics.A(self.model(self.y, self.physics))
        # What broadcasts would be fitted to something else, silently.
        if measured.shape != self.y.shape:
            raise ValueError(
                f"y of shape {tuple(self.y.shape)} is no measurement of this "
                f"{type(self.physics).__name__}: of the image of model it measures "
                f"{tuple(measured.shape)}."
            )
        residual = self.y - measured
        return (residual * residual.conj()).real.mean()

    def penalties(self) -> tuple[float, float]:
        """The squared distances from where the weights and the parameters of the
        operator started."""
        operator = list(self.operator.values())
        return (
            _squared_distance(self.weights, self._start),
            _squared_distance(operator, self._nominal),
        )

    def backward(
        self, discrepancy: Tensor, weight: float, physics_weight: float
    ) -> tuple[float, float]:
        r"""
        Leave the gradient of the objective at the weights and the parameters.

        :param torch.Tensor discrepancy: the first term.
        :param float weight: that of the distance of the weights.
        :param float physics_weight: that of the distance of the parameters.
        :return: the norms of the gradient in the weights and in the parameters.
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
                # A weight that is not used stays where it is.
                if p.grad is not None:
                    p.grad += 2 * mu * (p.detach() - start)
                    square += p.grad.square().sum().item()
            norms.append(math.sqrt(square))
        return norms[0], norms[1]

    def _require_gradients(self) -> None:
        if all(p.grad is None for p in self.weights):
            raise ValueError(
                f"model ({type(self.model).__name__}) is not differentiable in its "
                "weights: no gradient reaches them; see whether its forward runs under "
                "torch.no_grad()."
            )
        for name, leaf in self.operator.items():
            if leaf.grad is None:
                raise ValueError(
                    f"physics_parameters has {name!r}, on which A of this "
                    f"{type(self.physics).__name__} does not depend differentiably."
                )

    def keep(self) -> None:
        """Remember where weights and parameters stand, and the buffers with which the
        last discrepancy began."""
        self._kept_buffers = self._buffers
        self._kept = (
            [p.detach().clone() for p in self.weights],
            [p.detach().clone() for p in self.operator.values()],
        )

    def finish(self) -> tuple[Reconstructor, Physics]:
        """The model and the physics, without gradients, as they were last kept."""
        with torch.no_grad():
            for p, value in zip(self.weights, self._kept[0], strict=True):
                p.copy_(value)
            _restore(self.model, self._kept_buffers)
            kept = dict(zip(self.operator, self._kept[1], strict=True))
            for name, value in kept.items():
                leaf = self.operator[name]
                leaf.copy_(value)
                leaf.grad = None
        self._set_operator(kept)
        self.model.zero_grad(set_to_none=True)
        return self.model, self.physics

    def _set_operator(self, values: dict[str, Tensor]) -> None:
        tensors = {
            name: value
            for name, value in values.items()
            if not isinstance(self.operator[name], nn.Parameter)
        }
        # Not update, which changes parameters of the noise of the same name too.
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
            current.copy_(value)  # modules may share it
        else:
            setattr(module, own, value)


def _squared_distance(tensors: list[Tensor], starts: list[Tensor]) -> float:
    return sum(
        (p.detach() - start).square().sum().item()
        for p, start in zip(tensors, starts, strict=True)
    )


def _leaves(physics: Physics, names: Sequence[str]) -> dict[str, Tensor]:
    """The parameters of a physics that are adapted: parameters of the module, and
    copies of its other tensors."""
    if isinstance(names, str):
        raise TypeError(
            "physics_parameters must be a list of names, got the string "
            f"{names!r}; put it in a list."
        )
    own = {**dict(physics.named_buffers()), **dict(physics.named_parameters())}
    # Those of its modules, such as the noise model, are no part of the operator.
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
                f"physics_parameters has {name!r}, which is no real tensor of this "
                f"{type(physics).__name__}{hint} It has: {', '.join(own)}."
            )
        if isinstance(value, nn.Parameter):
            leaves[name] = value
        else:
            leaves[name] = value.detach().clone()
        leaves[name].requires_grad_()
    return leaves
