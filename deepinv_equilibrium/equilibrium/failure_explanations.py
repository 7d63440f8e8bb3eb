"""Explanations of failures: which argument of a call does not fit the model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deepinv.models import Denoiser
from deepinv.physics import Physics
from deepinv.utils import TensorList
from torch import Tensor, nn

_CHANNELS = re.compile(r"to have (\d+) channels, but got (\d+) channels")
# Words of the errors of torch and of denoisers, by what causes the error.
_OF_DEVICES = re.compile(r"device|cuda|cpu|meta|backend", re.IGNORECASE)
_OF_DTYPES = re.compile(
    r"type promoti|dtype|data ?type|double|float|half|complex", re.I
)
_OF_NOISE_LEVELS = re.compile(r"None|sigma|noise|argument|not passed")


def explain_failure(
    error: Exception,
    model: nn.Module,
    y: Any,
    physics: Physics,
    noise_levels: Iterable[Any],
) -> Exception | None:
    r"""
    Find the argument that does not fit the model, after the model has failed.

    These checks are made only after a failure, because many networks convert dtypes or
    accept any number of channels. An argument is named only if the message of the error
    is about such an argument: a network that converts dtypes may fail for another
    reason.

    :param Exception error: the error that the model raised.
    :param torch.nn.Module model: the model.
    :param torch.Tensor y: the measurement.
    :param deepinv.physics.Physics physics: its physics.
    :param Iterable noise_levels: noise levels that the model passes to its denoisers.
    :return: an error that names the argument and the remedy; ``None`` if every argument
        fits the model, or the error has another cause.
    """
    first = next(iter(y)) if isinstance(y, TensorList) else y
    weights = [*model.parameters(), *model.buffers()]
    tensors = [*weights, *physics.buffers(), *physics.parameters()]
    message = str(error)
    devices = {t.device for t in tensors}
    if devices - {first.device} and _OF_DEVICES.search(message):
        other = sorted(map(str, devices - {first.device}))[0]
        return TypeError(
            f"y is on {first.device}, and the model or the physics on {other}: move "
            f"them with model.to(y.device), physics.to(y.device). ({error})"
        )
    denoisers = [m for m in model.modules() if isinstance(m, Denoiser)]
    is_missing = _OF_NOISE_LEVELS.search(message) is not None
    if denoisers and is_missing and any(level is None for level in noise_levels):
        return TypeError(
            f"sigma_denoiser is missing, and {type(denoisers[0]).__name__} needs it: "
            "give the noise level in units of the image, e.g. sigma_denoiser=0.03. "
            f"({error})"
        )
    if _OF_DTYPES.search(message):
        explained = _explain_dtypes(error, model, first, physics)
        if explained is not None:
            return explained
    channels = _CHANNELS.search(message)
    if channels:
        wanted, got = channels.groups()
        return ValueError(
            f"the images of y have {got} channels, and a network of the model takes "
            f"{wanted}: build it for {got}, e.g. with in_channels={got}, or convert "
            f"the images. ({error})"
        )
    return None


def _explain_dtypes(
    error: Exception, model: nn.Module, y: Tensor, physics: Physics
) -> Exception | None:
    """Return an error that names a dtype that does not fit, if there is one."""
    dtypes = {p.dtype for p in _network_weights(model)}
    has_networks = bool(dtypes) or any(
        isinstance(module, Denoiser) for module in model.modules()
    )
    if y.is_complex() and has_networks and not any(d.is_complex for d in dtypes):
        return TypeError(
            f"y is complex ({y.dtype}), and the networks of the model are real: "
            "use a denoiser for complex images, such as "
            "deepinv.models.ComplexDenoiserWrapper(denoiser), or give real and "
            f"imaginary parts as two channels. ({error})"
        )
    real = y.real.dtype
    if dtypes and real not in {d.to_real() for d in dtypes}:
        dtype = str(next(iter(dtypes)))
        return TypeError(
            f"y has the dtype {y.dtype}, and the networks of the model {dtype}: "
            f"convert y with y.to({dtype}), or the model with model.to({real}). "
            f"({error})"
        )
    kept = {t.real.dtype for t in physics.buffers() if _is_inexact(t)}
    if kept and real not in kept:
        return TypeError(
            f"y has the dtype {y.dtype}, and the physics {next(iter(kept))}: "
            f"convert the physics with physics.to({real}). ({error})"
        )
    return None


def _network_weights(model: nn.Module) -> list[Tensor]:
    """Return the weights of layers. Parameters of algorithms, which are numbers, have
    no axes, and are converted to the dtype of y."""
    return [
        parameter
        for module in model.modules()
        for parameter in module.parameters(recurse=False)
        if parameter.ndim > 1 and _is_inexact(parameter)
    ]


def _is_inexact(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()
