"""Step sizes that follow the certified curvatures of the problem."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from deepinv.physics import Physics
from torch import Tensor, nn

from ..certificates.fingerprints import fingerprint, hidden_parts
from .contraction.step_intervals import Curvatures, NoStepSizeError, StepSizeRule
from .optimiser_arguments import AUTOMATIC
from .trained_parameters import TrainedParameters

# The end of an interval is excluded. A trained step size stays above _LOWEST and below
# 1 - _GAP of the end, and starts within _START of it.
_GAP, _LOWEST, _START = 1e-3, 1e-4, (1e-3, 0.95)
_REMEMBERED = 16


class AutomaticStepSizes(TrainedParameters):
    r"""
    Step sizes within the interval :math:`(0, \tau_1)` in which an algorithm is proved
    to contract, converge or decrease its energy.

    The interval is computed for each physics at its first call, from the certified
    spectrum of the operator and the declared curvatures of the prior, and recomputed if
    the operator, the weights of the prior, :math:`\lambda` or the size of the images
    change. A step size that is not trained is the default :math:`\tau_0` of the
    algorithm. A trained one is

    .. math::

        \tau = \tau_1' \bigl(\epsilon + (1 - \epsilon)
        \operatorname{sigmoid}(p + p_0)\bigr), \qquad
        \tau_1' = 0.999 \, \tau_1, \quad \epsilon = 10^{-4},

    where :math:`p` is the trained parameter, 0 at first, and :math:`p_0` is such that
    :math:`\tau = \min(\tau_0, 0.95 \, \tau_1')` for :math:`p = 0`. So no step of an
    optimiser leaves the interval, and weight decay pulls the step size to its default.
    The gradient reaches :math:`p` and :math:`\lambda`, but not the weights of a prior
    through its curvature.

    A ``state_dict`` contains :math:`p` with keys that end in ``auto_0``, ``auto_1``,
    ..., and not the step sizes, which depend on the physics.

    :param StepSizeRule rule: the intervals of the algorithm.
    :param int count: number of values; one value is shared by all layers.
    :param bool trained: whether the step sizes are trained.
    """

    # Both follow from the model and the physics, which certificates cover.
    run_state = frozenset(("curvatures", "_known"))

    def __init__(self, rule: StepSizeRule, count: int, trained: bool) -> None:
        super().__init__("stepsize", [1.0] * count)
        self.rule, self.trained = rule, trained
        self.curvatures: tuple[Curvatures, ...] = ()
        self._weights: tuple[Sequence[Any], ...] = ()
        self._known: OrderedDict[Any, Curvatures] = OrderedDict()
        if not trained:
            for index in range(count):
                del self._parameters[str(index)]
                self.register_buffer(str(index), torch.zeros(()), persistent=False)

    def read(
        self,
        layers: Sequence[tuple[Any, Any]],
        weights: Sequence[Any],
        physics: Physics,
        img_size: Sequence[int],
    ) -> tuple[Curvatures, ...]:
        r"""
        Read the curvatures of all layers, from which the step sizes are computed.

        :param Sequence layers: data fidelity and prior of each layer.
        :param Sequence weights: :math:`\lambda` of each layer, or one for all. Step
            sizes follow later changes of its values.
        :param deepinv.physics.Physics physics: the physics.
        :param Sequence img_size: :math:`(C, H, W)` of the images.
        :return: (tuple) the curvatures, which are also stored.
        :raises NoStepSizeError: if no interval is proved.
        """
        if getattr(physics, "stands_for_any_mask", False):
            raise NoStepSizeError(
                "a step size of 'auto' follows the mask of each measurement: build the "
                "model with a number to certify it for any mask."
            )
        self._weights = (weights,)  # in a tuple, which registers no module
        operator, size = _digests(physics), tuple(img_size)
        known: list[Curvatures] = []
        with torch.no_grad():
            for index, (fidelity, prior) in enumerate(layers):
                before = layers[index - 1] if index else (None, None)
                if fidelity is before[0] and prior is before[1]:
                    known.append(known[-1])
                    continue
                of_prior = _digests(prior) if self.rule.reads_prior(prior) else ()
                key = (operator, _digests(fidelity), of_prior, size)
                known.append(self._read_layer(key, fidelity, prior, physics))
        self.curvatures = tuple(known)
        for index in range(self.count):
            self.value(index)  # raises if there is no interval
        return self.curvatures

    def _read_layer(
        self, key: tuple[Any, ...], fidelity: Any, prior: Any, physics: Physics
    ) -> Curvatures:
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        known = self.rule.curvatures(fidelity, prior, physics, key[-1])
        if None not in key:
            self._known[key] = known
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return known

    def value(self, index: int) -> Tensor:
        r"""
        Return a step size as a plain tensor.

        :param int index: number :math:`k` of the layer.
        :return: (:class:`torch.Tensor`) :math:`\tau_k`, with its gradient; NaN before
            the first call with a physics.
        :raises IndexError: if there are not as many values.
        """
        index = self._position(index)
        exponent: Tensor = getattr(self, str(index))
        if not self.curvatures:
            return torch.full_like(exponent, math.nan)
        shared = self.count == 1
        layers = range(len(self.curvatures)) if shared else (index,)
        intervals = [
            self.rule.interval(self.curvatures[layer], self._weight(layer))
            for layer in layers
        ]
        start = torch.stack([start for start, _ in intervals]).min()
        end = torch.stack([end for _, end in intervals]).min()
        if not self.trained:
            # Rounding to the precision of the parameter does not exceed the default.
            return (start * (1 - 1e-6)).to(exponent)
        end = (1 - _GAP) * end
        fraction = (start / end - _LOWEST) / (1 - _LOWEST)
        offset = torch.logit(fraction.clamp(*_START))
        inside = torch.sigmoid(exponent.to(offset) + offset)
        return (end * (_LOWEST + (1 - _LOWEST) * inside)).to(exponent)

    def __setitem__(self, index: int, value: float | Tensor) -> None:
        raise ValueError(
            f"stepsize[{index}] cannot be set to {value}: it is computed from the "
            "physics, because the model was built with stepsize='auto'; build the "
            "model with a number."
        )

    def extra_repr(self) -> str:
        """Return the step sizes, or that they are not known yet."""
        return super().extra_repr() if self.curvatures else AUTOMATIC

    def _weight(self, layer: int) -> Tensor:
        (weights,) = self._weights
        weight = weights[layer] if len(weights) > 1 else weights[0]
        number = torch.as_tensor(weight).as_subclass(Tensor).double()
        if number.numel() != 1:
            raise NoStepSizeError(
                f"stepsize='auto' has no value for lambda_reg of shape "
                f"{tuple(number.shape)}. Give stepsize a number."
            )
        return number.reshape(())

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        for key, parameter in self._state(prefix):
            destination[key] = parameter if keep_vars else parameter.detach()

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        own = dict(self._state(prefix))
        for key in (key for key in state_dict if key.startswith(prefix)):
            if key.removeprefix(prefix).isdigit():
                error_msgs.append(
                    f"{key} is a number, and this model computes its step sizes from "
                    "the physics: build it with a number as stepsize to load it."
                )
            elif key not in own:
                unexpected_keys.append(key)
        for key, parameter in own.items():
            if key not in state_dict:
                missing_keys.append(key)
                continue
            with torch.no_grad():
                parameter.copy_(torch.as_tensor(state_dict[key]).reshape(()))

    def _state(self, prefix: str) -> Iterator[tuple[str, nn.Parameter]]:
        if self.trained:
            for index in range(self.count):
                yield f"{prefix}auto_{index}", self.get_parameter(str(index))


def _digests(part: Any) -> tuple[Any, ...] | None:
    """Return digests of what determines a part; ``None`` if they cannot tell."""
    digests = fingerprint(part)
    return None if hidden_parts(digests) else tuple(sorted(digests.items()))
