"""Checks of the optimisers' arguments, which deepinv ignores or mutates."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from deepinv.models import Denoiser
from deepinv.optim import BaseOptim, DataFidelity, PnP, Prior
from torch import Tensor, nn

from ..fixed_points.argument_checks import closest_names, refuse_unknown

_NOISE_LEVEL = "sigma_denoiser"
_ALIASES = {"lambda_reg": "lambda", _NOISE_LEVEL: "g_param"}
_SET_BY_OPTIMISER = ("iterator", "has_cost", "kwargs")
_NEEDED_WITH_DEQ = ("max_iter", "unfold", "trainable_params", "DEQ")


def signature_of(optimiser: type[BaseOptim]) -> inspect.Signature:
    r"""
    Return the signature of an optimiser class of deepinv, in which its ``**kwargs`` are
    replaced by the arguments of ``BaseOptim``.

    :param type optimiser: the class.
    :return: (inspect.Signature) the signature, without ``self``.
    :raises TypeError: if the constructor has no ``**kwargs`` and lacks an argument that
        ``DEQ`` needs.
    """
    own = inspect.signature(optimiser.__init__).parameters
    base = inspect.signature(BaseOptim.__init__).parameters
    if all(p.kind is not p.VAR_KEYWORD for p in own.values()):
        lacking = [name for name in _NEEDED_WITH_DEQ if name not in own]
        if lacking:
            raise TypeError(
                f"{optimiser.__name__}.__init__ takes no {', '.join(lacking)}: let it "
                "take **kwargs and pass these to deepinv.optim.BaseOptim.__init__."
            )
    named = [p for p in own.values() if p.kind is not p.VAR_KEYWORD][1:]  # no self
    passed_on = [
        p.replace(kind=p.KEYWORD_ONLY)
        for name, p in base.items()
        if name not in own and name not in _SET_BY_OPTIMISER
    ]
    return inspect.Signature([*named, *passed_on])


def bind(
    signature: inspect.Signature, self: Any, args: tuple[Any, ...], kwargs: Any
) -> dict[str, Any]:
    r"""
    Return the given arguments by name, with copies of the lists that deepinv mutates.

    :param inspect.Signature signature: the signature of the constructor.
    :param self: the object under construction.
    :param tuple args: positional arguments.
    :param dict kwargs: keyword arguments.
    :return: (dict) the given arguments by name.
    :raises TypeError: if an argument is unknown or given twice, or ``trainable_params``
        is a string.
    """
    refuse_unknown(type(self).__name__, kwargs, signature.parameters)
    given = dict(signature.bind(*args, **kwargs).arguments)
    if isinstance(given.get("trainable_params"), str):
        raise TypeError(
            "trainable_params must be a list of names, got the string "
            f"{given['trainable_params']!r}; put it in a list."
        )
    if given.get("trainable_params") is not None:
        given["trainable_params"] = [
            _ALIASES.get(name, name) for name in given["trainable_params"]
        ]
    if given.get("params_algo") is not None:
        given["params_algo"] = {
            name: _as_layers(value) for name, value in given["params_algo"].items()
        }
    for name in _numbers(signature):
        if name in given:
            given[name] = _as_layers(given[name])
    for name in ("K", "K_adjoint"):
        if name in given:
            given[name] = [given[name]]  # deepinv would iterate over a Sequential
    for name in ("g_param", "sigma_denoiser"):
        if given.get(name) is not None:
            given[name] = _as_layers(given[name])
    return given


def _numbers(signature: inspect.Signature) -> list[str]:
    """Return the names of the numbers that an algorithm has, such as ``stepsize``: the
    arguments with a number as default that ``BaseOptim`` does not have."""
    base = inspect.signature(BaseOptim.__init__).parameters
    return [
        name
        for name, parameter in signature.parameters.items()
        if name not in base
        and isinstance(parameter.default, int | float)
        and not isinstance(parameter.default, bool)
    ]


AUTOMATIC = "auto"


def take_automatic_steps(
    given: dict[str, Any], optimiser: str, available: bool
) -> bool:
    r"""
    Replace step sizes that are ``"auto"`` by 1, in place.

    :param dict given: the given arguments by name.
    :param str optimiser: name of the optimiser, for the message.
    :param bool available: whether the optimiser has automatic step sizes.
    :return: (bool) whether the step sizes are automatic.
    :raises ValueError: if they are not available, or only some are ``"auto"``.
    """
    parameters = given.get("params_algo")
    parameters = given if parameters is None else parameters
    values = parameters.get("stepsize")
    values = values if isinstance(values, list) else [values]
    automatic = [isinstance(value, str) and value == AUTOMATIC for value in values]
    if not any(automatic):
        return False
    if not available:
        raise ValueError(
            f"stepsize='auto' is not available for {optimiser} as it was built: it "
            "needs DEQ, g_first=False, and PGD, GD, FISTA, HQS, DRS or ADMM; give "
            "stepsize a number."
        )
    if not all(automatic):
        raise ValueError(
            f"stepsize={values!r} mixes 'auto' and numbers; give one or the other for "
            "all layers."
        )
    parameters["stepsize"] = [1.0] * len(values)
    return True


def merge_equal(values: Sequence[Any]) -> list[Any]:
    r"""
    Return the first of several values if all are equal, and all values otherwise.

    Numbers and tensors are equal by value. Priors and data fidelities are equal if they
    are one object, or have no weights and the same type and settings: objects with
    weights would be trained apart.

    :param Sequence values: the values of a parameter, priors or data fidelities.
    :return: (list) one value, or all values.
    """
    values = list(values)
    equal = all(_are_equal(values[0], value) for value in values[1:])
    return values[:1] if equal else values


def _are_equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, nn.Module):
        return (
            type(one) is type(other)
            and not one.state_dict()
            and not other.state_dict()
            and _pickled(one) == _pickled(other) != b""
        )
    numbers = (int, float, Tensor)
    if not isinstance(one, numbers) or not isinstance(other, numbers):
        return False
    return torch.equal(torch.as_tensor(one), torch.as_tensor(other))


def _pickled(module: nn.Module) -> bytes:
    """Return the settings of a module, or no bytes if they cannot be pickled."""
    try:
        return pickle.dumps(module)
    except (pickle.PicklingError, AttributeError, TypeError):
        return b""


def check_layers(what: Mapping[str, Any], layers: int) -> None:
    r"""
    Raise unless each list has one value, or one value for each layer.

    :param dict what: the lists by name.
    :param int layers: number of layers of the block.
    :raises ValueError: if a list has another length.
    """
    for name, values in what.items():
        if len(values) not in (1, layers):
            remedy = (
                "Equilibrium(layers=K) and ReTune(layers=K, ...) take lists of K, and "
                "DEQ=True takes a list of equal values as one value"
                if layers == 1
                else "give one value, or one for each layer"
            )
            raise ValueError(
                f"{name} has {len(values)} values for a block of layers={layers}; "
                f"{remedy}."
            )


def check_trainable(names: Iterable[str], known: Iterable[str]) -> None:
    r"""
    Raise if ``trainable_params`` has an unknown name, which deepinv ignores.

    :param list names: ``trainable_params``.
    :param list known: names of the parameters of the algorithm.
    :raises ValueError: if a name is unknown.
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise ValueError(
                f"trainable_params has {name!r}, but no parameter of this algorithm "
                f"has this name{closest_names(name, known)}"
            )


def check_values(parameters: Mapping[str, Any], positive: Collection[str] = ()) -> None:
    r"""
    Raise if a parameter that is not trained has an invalid value.

    :param dict parameters: lists of values by name.
    :param Collection positive: names of the parameters that must not be 0.
    :raises TypeError: if a value is a string.
    :raises ValueError: if a value is not finite, is negative and not ``g_param``, or is
        0 and must be positive.
    """
    signed = ("g_param",)  # the prior defines its meaning and its range
    for name, values in parameters.items():
        for value in values:
            if value is None or callable(value):  # a linear map or a prior
                continue
            if isinstance(value, str):
                raise TypeError(
                    f"{name} must be a number, a tensor or a list of these, got the "
                    f"string {value!r}."
                )
            tensor = torch.as_tensor(value)
            inside = torch.isfinite(tensor) & ((tensor >= 0) | (name in signed))
            if not bool(inside.all()):
                domain = "" if name in signed else " and nonnegative"
                raise ValueError(f"{name} must be finite{domain}, got {value!r}.")
            if name in positive and not bool((tensor > 0).all()):
                raise ValueError(
                    f"{name} must be positive, got {value!r}: the proximal operator of "
                    "the data fidelity divides by it."
                )


_PARTS: dict[str, tuple[type[Any], str, str]] = {
    "data_fidelity": (DataFidelity, "deepinv.optim.L2()", "ZeroFidelity"),
    "prior": (Prior, "deepinv.optim.PnP(denoiser)", "ZeroPrior"),
}


def check_kinds_of_parts(given: Mapping[str, Any]) -> None:
    r"""
    Raise unless data fidelities and priors are of deepinv's types. A common error is a
    denoiser as prior.

    :param dict given: the given arguments by name.
    :raises TypeError: if a data fidelity or a prior is of another type.
    """
    for name, (kind, example, _) in _PARTS.items():
        value = given.get(name)
        parts = value if isinstance(value, list | tuple | nn.ModuleList) else [value]
        for part in parts:
            if isinstance(part, Denoiser):
                raise TypeError(
                    f"{name} is the denoiser {type(part).__name__}: wrap it in a "
                    "prior, e.g. prior=deepinv.optim.PnP(denoiser)."
                )
            if not (part is None or isinstance(part, kind)):
                raise TypeError(
                    f"{name} must be a deepinv.optim.{kind.__name__}, such as "
                    f"{example}, got {type(part).__name__}."
                )


def check_parts_are_given(optimiser: str, given: Mapping[str, Any]) -> None:
    r"""
    Raise unless an optimiser has a data fidelity and a prior. deepinv replaces a
    missing one by zero.

    :param str optimiser: name of the optimiser, for the message.
    :param dict given: the given arguments by name.
    :raises ValueError: if ``data_fidelity`` or ``prior`` is missing.
    """
    for name, (_, example, zero) in _PARTS.items():
        if given.get(name) is None:
            raise ValueError(
                f"{name} is missing: give {optimiser} one, such as {name}={example}, "
                f"or leave the term out with {name}=deepinv.optim.{zero}()."
            )


def check_prior_gradients(priors: Iterable[Any], optimiser: str) -> None:
    r"""
    Raise unless priors have a gradient.

    :param list priors: the priors.
    :param str optimiser: name of the algorithm, for the message.
    :raises ValueError: if a prior is ``PnP``, which has a proximal operator only.
    """
    for prior in priors:
        if isinstance(prior, PnP):
            raise ValueError(
                f"{optimiser} takes gradient steps on the prior, and PnP has no "
                "gradient; use deepinv.optim.RED(denoiser), whose gradient is x - "
                "D(x), or an explicit prior."
            )


def _as_layers(value: Any) -> Any:
    """Return a new list of the values of the layers: the entries of a list or of a
    vector. A tensor with another number of axes is one value."""
    if isinstance(value, Tensor):
        return list(value.unbind()) if value.ndim == 1 else [value]
    if isinstance(value, str):
        return [value]  # deepinv would iterate over its letters
    if isinstance(value, Iterable) and not isinstance(value, nn.Module):
        return list(value)
    return value
