"""Parameters of algorithms, trained as logarithms to stay in their domain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .optimiser_arguments import check_trainable


class TrainedParameters(nn.Module):
    r"""
    The values :math:`\theta_k` of one parameter of an algorithm, one for each layer,
    trained as logarithms :math:`s_k`,

    .. math::

        \theta_k = c + \exp(s_k),

    with :math:`c = 2` for FISTA's :math:`a`, which must exceed 2, and :math:`c = 0` for
    step sizes, :math:`\lambda`, :math:`\sigma` and :math:`\beta`.

    Indexing returns :math:`\theta_k` with its gradient. A ``state_dict`` contains
    :math:`\theta_k` under deepinv's keys, so that deepinv loads the checkpoints of this
    package, and this package those of deepinv.

    :param str name: name of the parameter, e.g. ``"stepsize"``.
    :param Sequence values: :math:`\theta_k`, numbers or tensors.
    :raises ValueError: if a value is not above :math:`c`.
    """

    def __init__(self, name: str, values: Sequence[float | Tensor]):
        super().__init__()
        self.name = name
        self.lower = 2.0 if name == "a" else 0.0
        self.count = len(values)
        for index, value in enumerate(values):
            tensor = torch.as_tensor(value).detach()
            if not tensor.is_floating_point() or not isinstance(value, Tensor):
                tensor = tensor.float()  # deepinv converts numbers in this way
            if not bool((tensor > self.lower).all()):
                raise ValueError(
                    f"{name}={value!r} cannot be trained: it is learned as a logarithm "
                    f"and must be greater than {self.lower:g}; give a larger value, or "
                    "leave it out of trainable_params (by default all are trained)."
                )
            self.register_parameter(str(index), nn.Parameter(self._raw(tensor)))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        if not -self.count <= index < self.count:
            raise IndexError(f"{self.name} has {self.count} values, no index {index}.")
        raw = self.get_parameter(str(index % self.count))
        # A value that is rounded to the bound c could not be loaded again.
        info = torch.finfo(raw.dtype)
        inside = max(self.lower * (1 + info.eps), info.tiny)
        return (self.lower + raw.exp()).clamp_min(inside)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(self.count))

    def extra_repr(self) -> str:
        """Return the values of the layers, which ``repr`` shows."""
        return ", ".join(str(value.detach().tolist()) for value in self)

    def _raw(self, natural: Tensor) -> Tensor:
        return (natural - self.lower).log()

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        for index, value in enumerate(self):
            destination[f"{prefix}{index}"] = value if keep_vars else value.detach()

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
        converted = dict(state_dict)
        for key in (f"{prefix}{index}" for index in range(self.count)):
            if key in converted:
                natural = torch.as_tensor(converted[key])
                if not bool((natural > self.lower).all()):
                    error_msgs.append(
                        f"{key} = {natural.tolist()} must be greater than "
                        f"{self.lower:g}: it is learned as a logarithm."
                    )
                    return
                converted[key] = self._raw(natural)
        super()._load_from_state_dict(
            converted,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )


def with_trained(parameters: dict[str, Any], names: Sequence[str] | None) -> list[str]:
    r"""
    Replace parameters of an algorithm by trained ones.

    :param dict parameters: the values of each parameter, one for each layer, by name;
        changed in place.
    :param Sequence names: names of the parameters to train. ``None`` stands for all
        whose values are numbers or tensors.
    :return: (list) the names of the trained parameters.
    :raises ValueError: if a name is unknown, or its values are neither numbers nor
        tensors, or outside the domain.
    """
    if names is None:
        names = [name for name in parameters if _are_numbers(parameters[name])]
    check_trainable(names, parameters)
    for name in names:
        if not _are_numbers(parameters[name]):
            raise ValueError(
                f"trainable_params has {name!r}, whose value is "
                f"{parameters[name][0]!r}: give it a number to start from, or leave it "
                "out."
            )
        parameters[name] = TrainedParameters(name, parameters[name])
    return list(names)


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float | Tensor) for value in values)
