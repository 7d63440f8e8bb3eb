"""The plug-and-play model of a preset: an optimiser, its prior made of a denoiser."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepinv.models import Denoiser
from deepinv.optim import L2, RED, PnP, Prior

from ..equilibrium import Equilibrium, ReTune
from ..fixed_points import Adjoint, Anderson, FixedPointSolver, Implicit, OnFailure
from ..fixed_points.argument_checks import refuse_unknown
from ..optim.equilibrium_optim import EquilibriumOptim
from ..optim.optimizers import ADMM, DRS, GD, HQS, PDCP, PGD
from .named_components import named_denoiser


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
        prior=prior(named_denoiser(denoiser)),
        DEQ=configuration,
        **{**defaults, **arguments},
    )


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
    :param FixedPointSolver solver: default solver.
    :param Adjoint adjoint: default adjoint.
    :param tuple trainable_params: names of the parameters that are trained by default.
    """

    optimizer: type[EquilibriumOptim]
    prior: type[Prior] = PnP
    steps: Mapping[str, float] = field(default_factory=dict)
    solver: FixedPointSolver = Anderson()
    adjoint: Adjoint = Implicit()
    trainable_params: Sequence[str] = ("stepsize", "g_param")

    def __call__(
        self,
        denoiser: Denoiser | str,
        solver: FixedPointSolver | None = None,
        adjoint: Adjoint | None = None,
        layers: int = 1,
        on_failure: OnFailure = "warn",
        **arguments: Any,
    ) -> EquilibriumOptim:
        r"""
        Build the model.

        :param deepinv.models.Denoiser, str denoiser: the denoiser, or its name in
            :mod:`deepinv_equilibrium.plugins`. Its weights are learned with the model
            unless they are frozen.
        :param FixedPointSolver solver: finds the fixed point. Default: ``None``, the
            solver of the preset.
        :param Adjoint adjoint: gives the fixed point its gradient. Default: ``None``,
            the adjoint of the preset.
        :param int layers: iterations in the map whose fixed point is sought; lists of
            parameters of this length have one value per layer.
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
            self.solver if solver is None else solver,
            self.adjoint if adjoint is None else adjoint,
            layers=layers,
            on_failure=on_failure,
        )
        defaults = {"trainable_params": list(self.trainable_params), **self.steps}
        return plug_and_play(
            self,
            self.optimizer,
            self.prior,
            denoiser,
            configuration,
            {**defaults, **arguments},
        )


#: Forward-backward: :math:`x = \operatorname{D}_\sigma(x - \tau \nabla f(x))`. The
#: default :math:`\tau = 1` suits :math:`\|A\|^2 < 2`.
deq_pgd = EquilibriumPreset(PGD)


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
