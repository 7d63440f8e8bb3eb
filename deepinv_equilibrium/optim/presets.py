r"""
Plug-and-play equilibrium models from a denoiser alone.

These are the reconstructors that :mod:`deepinv_equilibrium.plugins` offers: each is the
optimiser of its name with the data fidelity :class:`deepinv.optim.L2`, a prior made of
the denoiser, ``sigma_denoiser=0.03``, a step size, and ``trainable_params=["stepsize",
"g_param"]``. Every argument of the optimiser can be given in the place of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deepinv.models import Denoiser
from deepinv.optim import RED, PnP, Prior

from ..fixed_points.adjoints import Adjoint, Implicit
from ..fixed_points.failures import OnFailure
from ..fixed_points.solvers import Anderson, FixedPointSolver
from .contractive_denoiser import contractive_denoiser
from .equilibrium import Equilibrium, ReTune
from .equilibrium_optim import EquilibriumOptim
from .optimizers import ADMM, DRS, GD, HQS, PDCP, PGD
from .plug_and_play import plug_and_play


def retune_pgd(
    denoiser: Denoiser | str,
    layers: int = 10,
    restarts: int = 10,
    rtol: float | None = None,
    on_failure: OnFailure = "warn",
    **arguments: Any,
) -> EquilibriumOptim:
    r"""
    Restarted proximal gradient descent with a denoiser in the place of the proximal
    map.

    .. math::

        x_{k+1} = \operatorname{D}_\sigma(x_k - \tau \nabla f(x_k)), \qquad
        \Phi_K = K \text{ such iterations}, \qquad x = \Phi_K^T(x_0),

    with the gradient through the last of the :math:`T` applications of :math:`\Phi_K`
    alone (Davy, Briceño-Arias and Pustelnik, "Restarted contractive operators to learn
    at equilibrium"). The default :math:`\tau = 1` suits operators with
    :math:`\|A\|^2 < 2`.

    :param deepinv.models.Denoiser, str denoiser: the denoiser, or its name in
        :mod:`deepinv_equilibrium.plugins`. Its weights are learned with the model
        unless they are frozen.
    :param int layers: iterations :math:`K` in a block.
    :param int restarts: applications :math:`T` of the block.
    :param float rtol: relative residual at which a sample stops restarting. Default:
        ``None``, all restarts.
    :param str on_failure: what to do where a sample diverges or turns non-finite:
        ``"warn"``, ``"raise"`` or ``"ignore"``.
    :param arguments: arguments of :class:`deepinv_equilibrium.optim.PGD`, such as
        ``stepsize``, ``sigma_denoiser``, ``data_fidelity`` and ``trainable_params``.
    :return: (deepinv_equilibrium.optim.PGD) the model, ready for
        :class:`deepinv.Trainer`.
    :raises TypeError: if the denoiser is neither a denoiser nor a name, or an argument
        is unknown.
    :raises ValueError: if no denoiser has that name, or an argument is out of its
        range.
    """
    configuration = ReTune(layers, restarts, rtol, on_failure)
    return plug_and_play(retune_pgd, PGD, PnP, denoiser, configuration, arguments)


@dataclass(frozen=True)
class EquilibriumPreset:
    r"""
    Plug-and-play model solved to its fixed point, with its implicit gradient.

    Calling a preset with a denoiser returns the model. The denoiser decides whether the
    iteration contracts: ``model.solution`` reports what happened.

    :param type optimizer: optimiser of :mod:`deepinv_equilibrium.optim`.
    :param type prior: :class:`deepinv.optim.PnP`, the denoiser in the place of the
        proximal map, or :class:`deepinv.optim.RED`, the gradient
        :math:`x - \operatorname{D}(x)`.
    :param dict steps: default step sizes of the optimiser.
    """

    optimizer: type[EquilibriumOptim]
    prior: type[Prior] = PnP
    steps: Mapping[str, float] = field(default_factory=dict)

    def __call__(
        self,
        denoiser: Denoiser | str,
        solver: FixedPointSolver = Anderson(),
        adjoint: Adjoint = Implicit(),
        layers: int = 1,
        on_failure: OnFailure = "warn",
        **arguments: Any,
    ) -> EquilibriumOptim:
        r"""
        Build the model.

        :param deepinv.models.Denoiser, str denoiser: the denoiser, or its name in
            :mod:`deepinv_equilibrium.plugins`. Its weights are learned with the model
            unless they are frozen.
        :param FixedPointSolver solver: how the fixed point is found.
        :param Adjoint adjoint: how it is differentiated.
        :param int layers: iterations in the map whose fixed point is sought; lists of
            parameters of this length are one per layer.
        :param str on_failure: what to do where a sample does not converge, forward or
            backward: ``"warn"``, ``"raise"`` or ``"ignore"``.
        :param arguments: arguments of the optimiser, such as ``stepsize``,
            ``sigma_denoiser``, ``data_fidelity`` and ``trainable_params``.
        :return: the model, ready for :class:`deepinv.Trainer`.
        :raises TypeError: if the denoiser is neither a denoiser nor a name, or an
            argument is unknown.
        :raises ValueError: if no denoiser has that name, or an argument is out of its
            range.
        """
        configuration = Equilibrium(
            solver, adjoint, layers=layers, on_failure=on_failure
        )
        return plug_and_play(
            self,
            self.optimizer,
            self.prior,
            denoiser,
            configuration,
            {**self.steps, **arguments},
        )


#: Forward-backward: :math:`x = \operatorname{D}_\sigma(x - \tau \nabla f(x))`. The
#: default :math:`\tau = 1` suits :math:`\|A\|^2 < 2`.
deq_pgd = EquilibriumPreset(PGD)


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


#: Regularisation by denoising:
#: :math:`\nabla f(x) + \lambda (x - \operatorname{D}_\sigma(x)) = 0`. The default
#: :math:`\tau = 1/2 = 1/(1 + \|A\|^2)` for :math:`\|A\| = 1` and :math:`\lambda = 1` is
#: the largest of the convergence theorem of DE-GRAD (Gilton, Ongie and Willett 2021).
deq_gd = EquilibriumPreset(GD, prior=RED, steps={"stepsize": 0.5})

#: Half-quadratic splitting:
#: :math:`x = \operatorname{D}_\sigma(\operatorname{prox}_{\tau f}(x))`, for any
#: :math:`\tau > 0`.
deq_hqs = EquilibriumPreset(HQS)

#: Alternating direction method of multipliers, for any :math:`\tau > 0`.
deq_admm = EquilibriumPreset(ADMM)

#: Douglas-Rachford splitting, for any :math:`\tau > 0`.
deq_drs = EquilibriumPreset(DRS)

#: Chambolle-Pock with the data fidelity in the dual:
#: :math:`u^+ = \operatorname{prox}_{\sigma f^*}(u + \sigma z)`,
#: :math:`x^+ = \operatorname{D}(x - \tau u^+)`, :math:`z^+ = 2 x^+ - x`. It asks for
#: :math:`\sigma \tau \leq 1`; the defaults :math:`\tau = 1` and :math:`\sigma = 0.9`
#: leave a margin, so that the norm in which the iteration is averaged is not
#: degenerate. Only :math:`\tau` is learned by default: keep an eye on the product.
deq_pdcp = EquilibriumPreset(PDCP, steps={"stepsize_dual": 0.9})
