"""Translation of deepinv's DEQ options to solvers and adjoints of this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepinv.optim import AndersonAccelerationConfig, DEQConfig

from ..equilibrium import Equilibrium
from ..fixed_points import (
    Adjoint,
    Anderson,
    FixedPointSolver,
    Implicit,
    JacobianFree,
    Picard,
)

# The options of deepinv's optimisers that a DEQConfig is translated with.
TRANSLATED = (
    *("max_iter", "early_stop", "thres_conv", "crit_conv"),
    *("backtracking", "anderson_acceleration"),
)


def as_deq_config(deq: Any) -> DEQConfig:
    r"""
    Return the configuration that the argument ``DEQ`` stands for.

    :param deepinv.optim.DEQConfig, bool deq: the argument, but not ``False``.
    :return: (deepinv.optim.DEQConfig) the configuration; deepinv's default for
        ``True``.
    :raises TypeError: if ``deq`` is of another type.
    """
    if deq is True:
        return DEQConfig()
    if not isinstance(deq, DEQConfig):
        raise TypeError(
            "DEQ must be Equilibrium(...), ReTune(...), a deepinv DEQConfig or a "
            f"bool, got {deq!r}."
        )
    return deq


def to_equilibrium(
    config: DEQConfig, given: Mapping[str, Any], options: Mapping[str, Any]
) -> Equilibrium:
    r"""
    Translate the arguments of an optimiser to a configuration.

    :class:`~deepinv_equilibrium.Equilibrium` and :class:`~deepinv_equilibrium.ReTune`
    are returned unchanged. A :class:`deepinv.optim.DEQConfig` becomes

    - a solver: ``Picard``, or ``Anderson`` with ``anderson_acceleration``, with
      ``max_iter`` iterations and the tolerance ``thres_conv``, or 0 without
      ``early_stop``;
    - an adjoint: ``JacobianFree()`` with ``jacobian_free``, otherwise ``Implicit`` with
      ``Picard`` or, with ``anderson_acceleration_backward``, ``Anderson``.

    :param deepinv.optim.DEQConfig config: the argument ``DEQ``.
    :param dict given: the arguments that the user has given, by name.
    :param dict options: all arguments, with deepinv's defaults, by name.
    :return: (Equilibrium) the configuration.
    :raises ValueError: if an argument cannot be combined with the configuration.
    """
    backtracking = options["backtracking"]
    if backtracking is not None and backtracking is not False:
        raise ValueError(
            f"backtracking={backtracking!r} changes the step size along the "
            "iterations, so that there is no fixed step whose equilibrium could be "
            "computed; leave it out and choose stepsize."
        )
    if isinstance(config, Equilibrium):
        refused = ("max_iter", "early_stop", "thres_conv", "crit_conv")
        for name in (*refused, "anderson_acceleration"):
            if name in given:
                raise ValueError(
                    f"{name}={given[name]!r} beside DEQ={type(config).__name__}(...): "
                    "the configuration contains the number of iterations and the "
                    "tolerance; set them on its solver, e.g. "
                    "Equilibrium(solver=Anderson(max_iter=100, rtol=1e-4)), or in "
                    "ReTune(layers, restarts, rtol)."
                )
        return config
    if options["crit_conv"] != "residual":
        raise ValueError(
            f"crit_conv={options['crit_conv']!r} is not available with DEQ, whose "
            "solvers stop by the residual; use crit_conv='residual'."
        )
    tolerance = options["thres_conv"]
    return Equilibrium(
        solver=_forward(
            options["max_iter"],
            tolerance if options["early_stop"] else 0.0,
            options["anderson_acceleration"],
        ),
        adjoint=_backward(config, tolerance),
    )


def _forward(
    max_iter: int,
    rtol: float,
    acceleration: Any,
) -> FixedPointSolver:
    if acceleration is None or acceleration is False:
        return Picard(max_iter=max_iter, rtol=rtol)
    if acceleration is True:
        acceleration = AndersonAccelerationConfig()
    if acceleration.full_backprop:
        raise ValueError(
            "anderson_acceleration.full_backprop=True has no meaning with DEQ, which "
            "does not record the iterates; leave it out, or use unfold=True."
        )
    _refuse_ridge("anderson_acceleration.eps", acceleration.eps, 0.1)
    return Anderson(
        max_iter=max_iter,
        rtol=rtol,
        history_size=acceleration.history_size,
        beta=acceleration.beta,
    )


def _backward(config: DEQConfig, rtol: float) -> Adjoint:
    if config.jacobian_free:
        return JacobianFree()
    _refuse_ridge("DEQConfig.eps_backward", config.eps_backward, 1e-4)
    if not config.anderson_acceleration_backward:
        return Implicit(Picard(max_iter=config.max_iter_backward, rtol=rtol))
    return Implicit(
        Anderson(
            max_iter=config.max_iter_backward,
            rtol=rtol,
            history_size=config.history_size_backward,
            beta=config.beta_backward,
        )
    )


def _refuse_ridge(name: str, value: float, default: float) -> None:
    if value != default:
        raise ValueError(
            f"{name}={value!r}: deepinv's absolute ridge depends on the scale of the "
            "problem, and Anderson has a relative ridge instead; leave it out."
        )
