"""Plug-and-play models: an optimiser whose prior is made of a denoiser."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepinv.models import Denoiser
from deepinv.optim import L2, RED, PnP, Prior

from ..equilibrium import Equilibrium, ReTune
from ..fixed_points import Adjoint, Anderson, FailurePolicy, FixedPointSolver, Implicit
from ..fixed_points.argument_checks import refuse_unknown
from ..optim.equilibrium_optim import EquilibriumOptim
from ..optim.optimizers import ADMM, DRS, GD, HQS, PDCP, PGD
from .named_components import named_configuration, named_denoiser


def plug_and_play(
    preset: Callable[..., EquilibriumOptim],
    optimizer: type[EquilibriumOptim],
    prior: type[Prior],
    denoiser: Denoiser,
    configuration: Equilibrium | ReTune,
    arguments: Mapping[str, Any],
) -> EquilibriumOptim:
    r"""
    Build the model of a preset.

    :param Callable preset: the function that the user calls. The message about an
        unknown argument lists its arguments.
    :param type optimizer: optimiser of :mod:`deepinv_equilibrium.optim`.
    :param type prior: prior that takes a denoiser.
    :param deepinv.models.Denoiser denoiser: the denoiser.
    :param Equilibrium, ReTune configuration: the argument ``DEQ`` of the optimiser.
    :param dict arguments: arguments of the user for the optimiser.
    :return: (EquilibriumOptim) the model.
    :raises TypeError: if an argument is unknown.
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
        prior=prior(denoiser),
        DEQ=configuration,
        **{**defaults, **arguments},
    )


def retune_pgd(
    denoiser: Denoiser | str,
    layers: int = 10,
    restarts: int = 10,
    rtol: float | None = None,
    on_failure: FailurePolicy = "warn",
    in_channels: int | None = None,
    **arguments: Any,
) -> EquilibriumOptim:
    r"""
    Return restarted proximal gradient descent with a denoiser instead of the proximal
    operator of a prior :footcite:p:`davy2025restarted`,

    .. math::

        x_{k+1} = \operatorname{D}_\sigma(x_k - \tau \nabla f(x_k)), \qquad
        \Phi_K = K \text{ such iterations}, \qquad x = \Phi_K^T(x_0).

    The gradient passes through the last of the :math:`T` applications of
    :math:`\Phi_K` only. The default :math:`\tau = 1` is suitable for
    :math:`\|A\|^2 < 2`.

    :param deepinv.models.Denoiser, str denoiser: the denoiser, or its name in
        :mod:`deepinv_equilibrium.plugins`. Its weights are trained with the model
        unless they are frozen.
    :param int layers: number :math:`K` of iterations in a block. Default: 10.
    :param int restarts: number :math:`T` of applications of the block. Default: 10.
    :param float rtol: relative residual at which a sample stops. Default: ``None``,
        every sample makes all applications.
    :param str on_failure: what happens if a sample diverges or becomes non-finite:
        ``"warn"``, ``"raise"``, ``"ignore"`` or ``"skip"``. Default: ``"warn"``.
    :param int in_channels: number of channels of a denoiser that is given by its name.
        Default: ``None``, its own default.
    :param arguments: arguments of :class:`deepinv_equilibrium.optim.PGD`, such as
        ``stepsize``, ``sigma_denoiser``, ``data_fidelity`` and ``trainable_params``.
    :return: (deepinv_equilibrium.optim.PGD) the model, ready for
        :class:`deepinv.Trainer`.
    :raises TypeError: if ``denoiser`` is neither a denoiser nor a string, or an
        argument is unknown.
    :raises ValueError: if no denoiser has the name, or an argument is out of its range.
    """
    configuration = ReTune(layers, restarts, rtol, on_failure)
    denoiser = named_denoiser(denoiser, in_channels)
    return plug_and_play(retune_pgd, PGD, PnP, denoiser, configuration, arguments)


@dataclass(frozen=True)
class EquilibriumPreset:
    r"""
    Factory of plug-and-play models that are solved to their fixed point.

    Calling a preset with a denoiser returns a model. Whether its iteration contracts
    depends on the denoiser. ``model.solution`` reports whether it converged.

    :param type optimizer: optimiser of :mod:`deepinv_equilibrium.optim`.
    :param type prior: :class:`deepinv.optim.PnP`, which replaces the proximal operator
        by the denoiser, or :class:`deepinv.optim.RED`, whose gradient is :math:`x -
        \operatorname{D}(x)`. Default: ``PnP``.
    :param dict steps: default step sizes of the optimiser, by name. Default: those of
        the optimiser.
    :param FixedPointSolver solver: default solver. Default: ``Anderson()``.
    :param Adjoint adjoint: default adjoint. Default: ``Implicit()``.
    :param tuple trainable_params: names of the parameters that are trained by default.
        Default: ``("stepsize", "g_param")``.
    """

    optimizer: type[EquilibriumOptim]
    prior: type[Prior] = PnP
    steps: Mapping[str, float] = field(default_factory=dict)
    solver: FixedPointSolver = Anderson()
    adjoint: Adjoint = Implicit()
    trainable_params: Sequence[str] = ("stepsize", "g_param")

    def __post_init__(self) -> None:
        # The description that the registry gives of the preset.
        splits = issubclass(self.prior, PnP)
        role = "in place of a proximal operator" if splits else "in its gradient"
        text = f"{self.optimizer.__name__} at equilibrium with a denoiser {role}."
        object.__setattr__(self, "__doc__", text)

    def __call__(
        self,
        denoiser: Denoiser | str,
        solver: FixedPointSolver | str | None = None,
        adjoint: Adjoint | str | None = None,
        layers: int = 1,
        on_failure: FailurePolicy = "warn",
        in_channels: int | None = None,
        **arguments: Any,
    ) -> EquilibriumOptim:
        r"""
        Build the model.

        :param deepinv.models.Denoiser, str denoiser: the denoiser, or its name in
            :mod:`deepinv_equilibrium.plugins`. Its weights are trained with the model
            unless they are frozen.
        :param FixedPointSolver, str solver: finds the fixed point; a name stands for
            one with its default arguments. Default: ``None``, the solver of the preset.
        :param Adjoint, str adjoint: differentiates the fixed point; a name stands for
            one with its default arguments. Default: ``None``, the adjoint of the
            preset.
        :param int layers: number of iterations in the map whose fixed point is
            computed. A list of parameters of this length has one value for each layer.
            Default: 1.
        :param str on_failure: what happens if a sample does not converge in the forward
            or the backward pass: ``"warn"``, ``"raise"``, ``"ignore"`` or ``"skip"``.
            Default: ``"warn"``.
        :param int in_channels: number of channels of a denoiser that is given by its
            name. Default: ``None``, its own default.
        :param arguments: arguments of the optimiser, such as ``stepsize``,
            ``sigma_denoiser``, ``data_fidelity`` and ``trainable_params``.
        :return: (EquilibriumOptim) the model, ready for :class:`deepinv.Trainer`.
        :raises TypeError: if ``denoiser`` is neither a denoiser nor a string, or an
            argument is unknown.
        :raises ValueError: if no denoiser has the name, or an argument is out of its
            range.
        """
        configuration = named_configuration(
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
            named_denoiser(denoiser, in_channels),
            configuration,
            {**defaults, **arguments},
        )


#: Forward-backward splitting: :math:`x = \operatorname{D}_\sigma(x - \tau \nabla
#: f(x))`. The default :math:`\tau = 1` is suitable for :math:`\|A\|^2 < 2`.
deq_pgd = EquilibriumPreset(PGD)


#: Regularisation by denoising:
#: :math:`\nabla f(x) + \lambda (x - \operatorname{D}_\sigma(x)) = 0`. The default
#: :math:`\tau = 1/2` is :math:`1/(1 + \|A\|^2)` for :math:`\|A\| = 1` and
#: :math:`\lambda = 1`, the largest step size in the convergence theorem of DE-GRAD
#: :footcite:p:`gilton2021deep`.
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
#: :math:`x^+ = \operatorname{D}(x - \tau u^+)`, :math:`z^+ = 2 x^+ - x`. It requires
#: :math:`\sigma \tau \leq 1`. With the defaults :math:`\tau = 1` and :math:`\sigma =
#: 0.9` the inequality is strict, so that the iteration is averaged in a norm that is
#: not degenerate. By default :math:`\tau` is trained and :math:`\sigma` is fixed;
#: training does not keep the product below 1.
deq_pdcp = EquilibriumPreset(PDCP, steps={"stepsize_dual": 0.9})
