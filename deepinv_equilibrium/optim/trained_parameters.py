"""Parameters of algorithms, trained as logarithms to stay in their domain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .optimiser_arguments import check_trainable


class TrainedValue(Tensor):
    """A value that indexing of :class:`TrainedParameters` returns. It is computed from
    the trained parameter: an in-place edit would change nothing, and raises."""

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute with plain tensors; refuse to write."""
        name = getattr(func, "__name__", "")
        if name in _WRITES or (name.endswith("_") and not name.endswith("__")):
            raise RuntimeError(
                f"{name} cannot edit a trained value in place, because the value is "
                "computed from its logarithm: set it with "
                "model.params_algo['stepsize'][0] = value, or project it with "
                "model.params_algo['stepsize'].clamp_(min=..., max=...)."
            )
        if func in _OF_LEAVES:
            raise RuntimeError(
                "a trained value is computed from its logarithm and is not a leaf with "
                "a gradient: optimisers take the logarithms "
                "model.params_algo['stepsize'].parameters(), which have gradients."
            )
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
        # A view of the value is refused as well.
        return result.as_subclass(cls) if func in _VIEWS else result

    def __format__(self, spec: str) -> str:
        """Format as a plain tensor, which takes the formats of a number."""
        return self.as_subclass(Tensor).__format__(spec)


def _readers(*attributes: str) -> list[Any]:
    """Return the functions by which torch reads attributes of a tensor."""
    return [getattr(Tensor, attribute).__get__ for attribute in attributes]


# What torch.optim and users read of a leaf.
_OF_LEAVES = _readers("is_leaf", "grad")
_VIEWS = [*_readers("data"), Tensor.detach]
_WRITES = ("__set__", "__setitem__")


class TrainedParameters(nn.Module):
    r"""
    The values :math:`\theta_k` of one parameter of an algorithm, one for each layer.
    The logarithm of the ratio to the initial value :math:`\theta_k^0` is trained: with
    :math:`p_k = 0` at the start,

    .. math::

        \theta_k = c + (\theta_k^0 - c) \exp(p_k),

    where :math:`c = 2` for FISTA's :math:`a`, which must exceed 2, and :math:`c = 0`
    for step sizes, :math:`\lambda`, :math:`\sigma` and :math:`\beta`.

    Weight decay pulls :math:`p_k` to 0, and so :math:`\theta_k` to :math:`\theta_k^0`,
    the value with which the model was built. To load or to set a value changes
    :math:`p_k` and not :math:`\theta_k^0`.

    Indexing returns :math:`\theta_k` with its gradient, and ``trained[k] = value`` sets
    it. :meth:`clamp_` projects all values onto an interval. The trained parameters
    :math:`p_k`, which an optimiser takes, are ``trained.parameters()``.

    A ``state_dict`` contains :math:`\theta_k` under deepinv's keys, so that deepinv
    loads the checkpoints of this package, and this package those of deepinv.

    :param str name: name of the parameter, e.g. ``"stepsize"``.
    :param Sequence values: :math:`\theta_k^0`, numbers or tensors.
    :param int keys: number of keys under which the ``state_dict`` contains a single
        value. A checkpoint whose keys have different values is refused. Default: 1.
    :raises ValueError: if a value is not above :math:`c`.
    """

    def __init__(self, name: str, values: Sequence[float | Tensor], keys: int = 1):
        super().__init__()
        self.name = name
        self.lower = 2.0 if name == "a" else 0.0
        self.count = len(values)
        self.key_count = max(self.count, keys)
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
            # A checkpoint has the value itself, not where it started.
            self.register_buffer(_initial(index), tensor.clone(), persistent=False)
            self.register_parameter(str(index), nn.Parameter(torch.zeros_like(tensor)))

    def __len__(self) -> int:
        return self.count

    def value(self, index: int) -> Tensor:
        r"""
        Return a value as a plain tensor.

        :param int index: number :math:`k` of the layer.
        :return: (:class:`torch.Tensor`) :math:`\theta_k`, with its gradient.
        :raises IndexError: if the parameter has not as many values.
        """
        index = self._position(index)
        # Not get_parameter: torch.func.functional_call puts plain tensors here.
        exponent: Tensor = getattr(self, str(index))
        # DistributedDataParallel writes to buffers between two calls of a model.
        initial = self.get_buffer(_initial(index)).clone()
        # A value that is rounded to the bound c could not be loaded again.
        info = torch.finfo(exponent.dtype)
        inside = max(self.lower * (1 + info.eps), info.tiny)
        value = self.lower + (initial - self.lower) * exponent.exp()
        return value.clamp_min(inside)

    def __getitem__(self, index: int) -> Tensor:
        value = self.value(index)
        # A tensor has one subclass: that of a trace, as in torch.export, stays.
        return value.as_subclass(TrainedValue) if type(value) is Tensor else value

    def __setitem__(self, index: int, value: float | Tensor) -> None:
        index = self._position(index)
        exponent = self.get_parameter(str(index))
        natural = torch.as_tensor(value).detach().to(exponent)
        if not bool((natural > self.lower).all()):
            raise ValueError(
                f"{self.name}[{index}] = {natural.tolist()} must be greater than "
                f"{self.lower:g}: it is learned as a logarithm."
            )
        with torch.no_grad():
            exponent.copy_(self._exponent(index, natural))

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(self.count))

    def clamp_(
        self,
        min: float | None = None,  # noqa: A002  torch's name
        max: float | None = None,  # noqa: A002  torch's name
    ) -> TrainedParameters:
        r"""
        Project all values onto an interval, for example after each step of an optimiser
        that must not exceed the largest step size.

        :param float min: lower end, above :math:`c`. Default: ``None``, not limited.
        :param float max: upper end, above :math:`c`. Default: ``None``, not limited.
        :return: (TrainedParameters) the parameters themselves, changed in place.
        :raises ValueError: if a limit is not above :math:`c`.
        """
        for index in range(self.count):
            value = self.value(index).detach()
            limited = value.clamp(min, max)
            if not torch.equal(limited, value):
                self[index] = limited
        return self

    def extra_repr(self) -> str:
        """Return the values of the layers, which ``repr`` shows."""
        return ", ".join(str(value.detach().tolist()) for value in self)

    def _position(self, index: int) -> int:
        if not -self.count <= index < self.count:
            raise IndexError(f"{self.name} has {self.count} values, no index {index}.")
        return index % self.count

    def _exponent(self, index: int, natural: Tensor) -> Tensor:
        initial = self.get_buffer(_initial(index))
        return ((natural - self.lower) / (initial - self.lower)).log()

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        for key in range(self.key_count):
            value = self.value(min(key, self.count - 1))
            destination[f"{prefix}{key}"] = value if keep_vars else value.detach()

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
        first = converted.get(f"{prefix}0")
        for key in (f"{prefix}{index}" for index in range(self.count, self.key_count)):
            if key in converted and not _equal(converted.pop(key), first):
                error_msgs.append(
                    f"{key} differs from {prefix}0: this model was built from a list "
                    f"of equal values and has one {self.name}."
                )
                return
        for index in range(self.count):
            key = f"{prefix}{index}"
            if key in converted:
                exponent = self.get_parameter(str(index))
                natural = torch.as_tensor(converted[key])
                if exponent.ndim == 0 and natural.shape == (1,):
                    natural = natural[0]  # torch loads these too
                if not bool((natural > self.lower).all()):
                    error_msgs.append(
                        f"{key} = {natural.tolist()} must be greater than "
                        f"{self.lower:g}: it is learned as a logarithm."
                    )
                    return
                if natural.shape == exponent.shape:
                    converted[key] = self._exponent(index, natural.to(exponent))
        super()._load_from_state_dict(
            converted,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )


def _equal(one: Any, other: Any) -> bool:
    return other is not None and torch.equal(
        torch.as_tensor(one), torch.as_tensor(other)
    )


def _initial(index: int) -> str:
    """Return the name of the buffer of an initial value."""
    return f"initial_{index}"


def with_trained(
    parameters: dict[str, Any],
    names: Sequence[str] | None,
    keys: Mapping[str, int] | None = None,
) -> list[str]:
    r"""
    Replace parameters of an algorithm by trained ones.

    :param dict parameters: the values of each parameter, one for each layer, by name;
        changed in place.
    :param Sequence names: names of the parameters to train. ``None`` stands for all
        whose values are numbers or tensors.
    :param dict keys: for each parameter that is a single value, the number of its keys
        in a ``state_dict``. Default: ``None``, one key.
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
        parameters[name] = TrainedParameters(
            name, parameters[name], (keys or {}).get(name, 1)
        )
    return list(names)


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float | Tensor) for value in values)
