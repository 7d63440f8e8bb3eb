"""Proximal gradient descent with a contractive denoiser, by name."""

from __future__ import annotations

from typing import Any

from deepinv.models import Denoiser
from deepinv.optim import PnP

from ..fixed_points import Adjoint, Anderson, FailurePolicy, FixedPointSolver, Implicit
from ..optim.equilibrium_optim import EquilibriumOptim
from ..optim.optimizers import PGD
from .named_components import contractive_denoiser, named_configuration
from .plug_and_play import plug_and_play


def certified_deq_pgd(
    denoiser: Denoiser | str = "convex-potential",
    contraction: float = 0.99,
    solver: FixedPointSolver | str = Anderson(),
    adjoint: Adjoint | str = Implicit(),
    layers: int = 1,
    on_failure: FailurePolicy = "warn",
    in_channels: int | None = None,
    **arguments: Any,
) -> EquilibriumOptim:
    r"""
    Return proximal gradient descent at equilibrium with a strictly contractive
    denoiser. :func:`deepinv_equilibrium.certify` proves that the model contracts.

    .. math::

        x = \operatorname{D}_\sigma(x - \tau \nabla f(x)), \qquad
        \|\operatorname{D}_\sigma(u) - \operatorname{D}_\sigma(v)\| \leq L_D \|u - v\|,
        \quad L_D < 1.

    With the default :math:`\tau = 1` and :math:`\|A\|^2 \leq 2`, the rate is at most
    :math:`L_D`, and each measurement has exactly one solution. Training the weights of
    the denoiser does not change this, but training the step size could: by default
    ``trainable_params=["g_param"]``. With ``stepsize="auto"`` the step size is computed
    from :math:`\|A\|^2` for each physics, and the proof holds wherever that bound is
    certified, also if the step size is trained.

    :param deepinv.models.Denoiser, str denoiser: a denoiser whose
        :func:`deepinv_equilibrium.lipschitz` constant is certified and below 1, or the
        name of one in :mod:`deepinv_equilibrium.plugins` that takes ``contraction``.
        Its weights are trained with the model unless they are frozen.
    :param float contraction: :math:`L_D`, in (0, 1), of a denoiser that is given by its
        name. Ignored for a module. Default: 0.99.
    :param FixedPointSolver, str solver: finds the fixed point; a name stands for one
        with its default arguments. Default: ``Anderson()``.
    :param Adjoint, str adjoint: differentiates the fixed point; a name stands for one
        with its default arguments. Default: ``Implicit()``.
    :param int layers: number of iterations in the map whose fixed point is computed.
        Default: 1.
    :param str on_failure: what happens if a sample does not converge in the forward or
        the backward pass: ``"warn"``, ``"raise"``, ``"ignore"`` or ``"skip"``. Default:
        ``"warn"``.
    :param int in_channels: number of channels of a denoiser that is given by its name.
        Default: ``None``, its own default.
    :param arguments: arguments of :class:`deepinv_equilibrium.optim.PGD`.
    :return: (deepinv_equilibrium.optim.PGD) the model, ready for
        :class:`deepinv.Trainer`.
    :raises TypeError: if ``denoiser`` is neither a denoiser nor a string, or an
        argument is unknown.
    :raises ValueError: if the denoiser is not proved to be strictly contractive, no
        denoiser has the name, an argument is out of its range, or ``in_channels`` is
        given with a module.
    """
    denoiser = contractive_denoiser(denoiser, contraction, in_channels)
    configuration = named_configuration(
        solver, adjoint, layers=layers, on_failure=on_failure
    )
    arguments = {"trainable_params": ["g_param"], **arguments}
    return plug_and_play(
        certified_deq_pgd, PGD, PnP, denoiser, configuration, arguments
    )
