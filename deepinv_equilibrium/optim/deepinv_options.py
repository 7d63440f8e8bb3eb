"""What deepinv's own DEQ options mean here, and which are refused."""

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


def to_equilibrium(
    config: DEQConfig, given: Mapping[str, Any], options: Mapping[str, Any]
) -> Equilibrium:
    r"""
    Translate the ``DEQ`` argument and the options beside it.

    :param DEQConfig config: deepinv's configuration, or one of ours.
    :param dict given: the options that the user has given, by name.
    :param dict options: all options, with deepinv's defaults filled in.
    :return: the configuration that is run.
    :raises ValueError: if an option has no meaning beside the configuration.
    """
    backtracking = options["backtracking"]
    if backtracking is not None and backtracking is not False:
        raise ValueError(
            f"backtracking={backtracking!r} changes the step size along the "
            "iterations, so there is no fixed step whose equilibrium could be sought; "
            "leave it out and choose stepsize."
        )
    if isinstance(config, Equilibrium):
        refused = ("max_iter", "early_stop", "thres_conv", "crit_conv")
        for name in (*refused, "anderson_acceleration"):
            if name in given:
                raise ValueError(
                    f"{name}={given[name]!r} beside DEQ={type(config).__name__}(...): "
                    "the configuration has the numbers; set them on its solver, e.g. "
                    "Equilibrium(solver=Anderson(max_iter=100, rtol=1e-4)), or in "
                    "ReTune(layers, restarts, rtol)."
                )
        return config
    if options["crit_conv"] != "residual":
        raise ValueError(
            f"crit_conv={options['crit_conv']!r} is not available with DEQ: an "
            "equilibrium is judged by its residual; use crit_conv='residual'."
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
            "anderson_acceleration.full_backprop=True has no meaning with DEQ, where "
            "no iterate is recorded; leave it out, or use unfold=True."
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
            "problem and is replaced by a relative one; leave it out."
        )
