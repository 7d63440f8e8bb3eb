"""Factories that accept names of the registry as arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from deepinv.models import Denoiser

from .. import plugins
from ..equilibrium import Equilibrium
from ..equilibrium.input_checks import require_contractive
from ..fixed_points import Adjoint, FixedPointSolver
from ..fixed_points.argument_checks import require_number
from ..models import EquilibriumRegularisation
from ..optim import (
    RED,
    ChannelwisePrior,
    GradientStepPGD,
    NetworkResidualPrior,
    PoissonMirrorDescent,
)

T = TypeVar("T")


def named_denoiser(
    denoiser: Denoiser | str, in_channels: int | None = None, **options: Any
) -> Denoiser:
    r"""
    Return a denoiser, or create the one that has a name.

    :param deepinv.models.Denoiser, str denoiser: the denoiser, or its name in
        :mod:`deepinv_equilibrium.plugins`.
    :param int in_channels: number of channels of a denoiser that is given by its name.
        Default: ``None``, its own default.
    :param options: further arguments of a denoiser that is given by its name.
    :return: (deepinv.models.Denoiser) the denoiser.
    :raises TypeError: if ``denoiser`` is neither a denoiser nor a string, or the named
        denoiser does not take an argument.
    :raises ValueError: if no denoiser has the name, or ``in_channels`` is given with a
        module.
    """
    if isinstance(denoiser, str):
        return created("denoisers", denoiser, in_channels, **options)
    refuse_channels(denoiser, in_channels)
    if not isinstance(denoiser, Denoiser):
        known = ", ".join(map(repr, plugins.names("denoisers")))
        raise TypeError(
            "denoiser must be an instance of deepinv.models.Denoiser, or one of the "
            f"names {known}, got {denoiser!r}."
        )
    return denoiser


def named_configuration(
    solver: FixedPointSolver | str, adjoint: Adjoint | str, **options: Any
) -> Equilibrium:
    r"""
    Return the configuration with a solver and an adjoint, or with those that have a
    name and take no argument.

    :param FixedPointSolver, str solver: the solver, or its name in
        :mod:`deepinv_equilibrium.plugins`.
    :param Adjoint, str adjoint: the adjoint, or its name.
    :param options: further arguments of
        :class:`~deepinv_equilibrium.equilibrium.Equilibrium`.
    :return: (Equilibrium) the configuration.
    :raises TypeError: if ``solver`` or ``adjoint`` is of another type, or requires an
        argument.
    :raises ValueError: if a name is unknown, or an option is out of its range.
    """
    if isinstance(solver, str):
        solver = plugins.create("solvers", solver)
    if isinstance(adjoint, str):
        adjoint = plugins.create("adjoints", adjoint)
    return Equilibrium(solver, adjoint, **options)


def created(kind: str, name: str, in_channels: int | None, **options: Any) -> Any:
    """Create a component, with a number of channels if one is given."""
    if in_channels is not None:
        options["in_channels"] = in_channels
    return plugins.create(kind, name, **options)


def refuse_channels(component: Any, in_channels: int | None) -> None:
    """Raise if a number of channels is given for a component that exists already."""
    if in_channels is not None:
        raise ValueError(
            f"in_channels={in_channels!r} is for a component that is given by its "
            f"name; this {type(component).__name__} has its own number of channels: "
            "leave in_channels out."
        )


def contractive_denoiser(
    denoiser: Denoiser | str, contraction: float, in_channels: int | None = None
) -> Denoiser:
    r"""
    Return a denoiser that is proved to be strictly contractive.

    :param deepinv.models.Denoiser, str denoiser: the denoiser, or the name of one in
        :mod:`deepinv_equilibrium.plugins` that takes ``contraction``.
    :param float contraction: Lipschitz constant, in (0, 1), of a denoiser that is given
        by its name.
    :param int in_channels: number of its channels. Default: ``None``, its own default.
    :return: (deepinv.models.Denoiser) the denoiser.
    :raises TypeError: if ``denoiser`` is neither a denoiser nor a string, or
        ``contraction`` is not a number.
    :raises ValueError: if no denoiser has the name, the denoiser is not proved to be
        strictly contractive, or ``in_channels`` is given with a module.
    """
    require_number("contraction", contraction)
    denoiser = named_denoiser(denoiser, in_channels, contraction=contraction)
    require_contractive(denoiser)
    return denoiser


def with_named_parts(factory: Callable[..., T], **kinds: str) -> Callable[..., T]:
    r"""
    Return a factory that creates some of its arguments from their names.

    :param Callable factory: a class, or a function that returns a component.
    :param str kinds: for each argument that may be a name, its kind in
        :mod:`deepinv_equilibrium.plugins`.
    :return: (Callable) the factory, with the same documentation and one more keyword
        argument, ``in_channels``: the number of channels of a component that is given
        by its name.
    """
    signature = inspect.signature(factory)

    @wraps(factory, updated=())
    def build(*args: Any, in_channels: int | None = None, **kwargs: Any) -> T:
        given = signature.bind(*args, **kwargs)
        for argument, kind in kinds.items():
            value = given.arguments.get(argument)
            if isinstance(value, str):
                given.arguments[argument] = created(kind, value, in_channels)
            else:
                refuse_channels(value, in_channels)
        return factory(*given.args, **given.kwargs)

    channels = inspect.Parameter(
        "in_channels",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation="int | None",
    )
    parameters = list(signature.parameters.values())
    last = len(parameters)
    if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
        last -= 1
    parameters.insert(last, channels)
    # inspect reads this attribute, which the type of functions does not declare.
    build.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters
    )
    return build


# Each takes ``in_channels``, the number of channels of a component given by its name.

#: :class:`deepinv_equilibrium.optim.RED`; ``denoiser`` may be a name.
red = with_named_parts(RED, denoiser="denoisers")

#: :class:`deepinv_equilibrium.optim.NetworkResidualPrior`; ``denoiser`` may be a name.
network_residual = with_named_parts(NetworkResidualPrior, denoiser="denoisers")

#: :class:`deepinv_equilibrium.optim.ChannelwisePrior`; ``prior`` may be a name.
channelwise = with_named_parts(ChannelwisePrior, prior="priors")

#: :class:`deepinv_equilibrium.optim.GradientStepPGD`; ``denoiser`` may be a name.
gradient_step_pgd = with_named_parts(GradientStepPGD, denoiser="denoisers")

#: :class:`deepinv_equilibrium.optim.PoissonMirrorDescent`; ``prior`` may be a name.
deq_md = with_named_parts(PoissonMirrorDescent, prior="priors")


def equilibrium_regularisation(
    denoiser: Denoiser | str = "convex-potential",
    contraction: float = 0.9,
    in_channels: int | None = None,
    **arguments: Any,
) -> EquilibriumRegularisation:
    r"""
    Return :class:`~deepinv_equilibrium.models.EquilibriumRegularisation` with a
    denoiser or its name.

    :param deepinv.models.Denoiser, str denoiser: a denoiser that is proved to be
        strictly contractive, or the name of one in :mod:`deepinv_equilibrium.plugins`
        that takes ``contraction``.
    :param float contraction: Lipschitz constant, in (0, 1), of a denoiser that is given
        by its name.
    :param int in_channels: number of its channels. Default: ``None``, its own default.
    :param arguments: further arguments of the class: ``alpha``, ``sigma_denoiser``,
        ``DEQ`` and ``show_progress_bar``.
    :return: (deepinv_equilibrium.models.EquilibriumRegularisation) the model.
    :raises TypeError: if ``denoiser`` is neither a denoiser nor a string, or an
        argument is unknown.
    :raises ValueError: if the denoiser is not proved to be strictly contractive, or
        ``in_channels`` is given with a module.
    """
    denoiser = contractive_denoiser(denoiser, contraction, in_channels)
    return EquilibriumRegularisation(denoiser, **arguments)
