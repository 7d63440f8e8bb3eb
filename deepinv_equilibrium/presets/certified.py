"""A denoiser that is proved to be a contraction."""

from __future__ import annotations

from typing import Any

from deepinv.models import Denoiser
from deepinv.optim import PnP

from ..equilibrium import Equilibrium
from ..fixed_points import Adjoint, Anderson, FixedPointSolver, Implicit, OnFailure
from ..optim.equilibrium_optim import EquilibriumOptim
from ..optim.optimizers import PGD
from .named_components import contractive_denoiser
from .plug_and_play import plug_and_play


def certified_deq_pgd(
    denoiser: Denoiser | str = "convex-potential",
    contraction: float = 0.99,
    solver: FixedPointSolver = Anderson(),
    adjoint: Adjoint = Implicit(),
    layers: int = 1,
    on_failure: OnFailure = "warn",
    **arguments: Any,
) -> EquilibriumOptim:
    r"""
    Proximal gradient descent with a strictly contractive denoiser, at equilibrium: a
    model whose contraction :func:`deepinv_equilibrium.certify` proves.

    .. math::

        x = \operatorname{D}_\sigma(x - \tau \nabla f(x)), \qquad
        \|\operatorname{D}_\sigma(u) - \operatorname{D}_\sigma(v)\| \leq L_D \|u - v\|,
        \quad L_D < 1.

    With the default :math:`\tau = 1` and :math:`\|A\|^2 \leq 2` its rate is at most
    :math:`L_D`, and there is one solution for each measurement, whatever the weights
    become in a training. The step size would void this if it were learned: by default
    ``trainable_params=["g_param"]``.

    :param deepinv.models.Denoiser, str denoiser: a denoiser whose
        :func:`deepinv_equilibrium.lipschitz` constant is certified and below 1, or the
        name of one in :mod:`deepinv_equilibrium.plugins` that takes ``contraction``.
        Its weights are learned with the model unless they are frozen.
    :param float contraction: :math:`L_D`, in (0, 1), of a denoiser that is given by its
        name; one that is given as a module has its own.
    :param FixedPointSolver solver: how the fixed point is found.
    :param Adjoint adjoint: how it is differentiated.
    :param int layers: iterations in the map whose fixed point is sought.
    :param str on_failure: as in :class:`EquilibriumPreset`.
    :param arguments: arguments of :class:`deepinv_equilibrium.optim.PGD`.
    :return: (deepinv_equilibrium.optim.PGD) the model, ready for
        :class:`deepinv.Trainer`.
    :raises TypeError: if the denoiser is neither a denoiser nor a name, or an argument
        is unknown.
    :raises ValueError: if the denoiser is not proved to be strictly contractive, no
        denoiser has that name, or an argument is out of its range.
    """
    denoiser = contractive_denoiser(denoiser, contraction)
    configuration = Equilibrium(solver, adjoint, layers=layers, on_failure=on_failure)
    arguments = {"trainable_params": ["g_param"], **arguments}
    return plug_and_play(
        certified_deq_pgd, PGD, PnP, denoiser, configuration, arguments
    )
