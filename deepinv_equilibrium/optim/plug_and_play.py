"""The plug-and-play model of a preset: an optimiser, its prior made of a denoiser."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from deepinv.models import Denoiser
from deepinv.optim import L2, Prior

from .. import plugins
from .arguments import refuse_unknown
from .equilibrium import Equilibrium, ReTune
from .equilibrium_optim import EquilibriumOptim


def plug_and_play(
    preset: Callable[..., EquilibriumOptim],
    optimizer: type[EquilibriumOptim],
    prior: type[Prior],
    denoiser: Denoiser | str,
    configuration: Equilibrium | ReTune,
    arguments: Mapping[str, Any],
) -> EquilibriumOptim:
    r"""
    :param Callable preset: what the user calls, whose arguments are known.
    :param type optimizer: optimiser of :mod:`deepinv_equilibrium.optim`.
    :param type prior: prior that takes a denoiser.
    :param deepinv.models.Denoiser, str denoiser: the denoiser, or its name.
    :param Equilibrium, ReTune configuration: the optimiser's ``DEQ``.
    :param dict arguments: those of the user for the optimiser.
    :return: the model.
    :raises TypeError: if the denoiser is neither a denoiser nor a name, or an argument
        is unknown.
    """
    own = [
        name
        for name, parameter in inspect.signature(preset).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    ]
    rest = set(inspect.signature(optimizer).parameters) - {*own, "prior", "DEQ"}
    refuse_unknown(
        f"the preset of {optimizer.__name__}", arguments, [*own, *sorted(rest)]
    )
    defaults = {
        "data_fidelity": L2(),
        "sigma_denoiser": 0.03,
        "trainable_params": ["stepsize", "g_param"],
    }
    return optimizer(
        prior=prior(as_denoiser(denoiser)),
        DEQ=configuration,
        **{**defaults, **arguments},
    )


def as_denoiser(denoiser: Denoiser | str) -> Denoiser:
    """The denoiser of a name, or the denoiser itself."""
    if isinstance(denoiser, str):
        return plugins.create("denoisers", denoiser)
    if not isinstance(denoiser, Denoiser):
        known = ", ".join(map(repr, plugins.names("denoisers")))
        raise TypeError(
            "denoiser must be an instance of deepinv.models.Denoiser, or one of the "
            f"names {known}, got {denoiser!r}."
        )
    return denoiser
