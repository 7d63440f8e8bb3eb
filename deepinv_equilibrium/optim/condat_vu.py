r"""The primal-dual algorithm of Condat and Vũ, for a smooth and a composed term."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from deepinv.optim import BaseOptim, DataFidelity, Prior, ZeroPrior
from deepinv.physics import Physics
from torch import Tensor, nn

from .algorithm_state import PRIMAL_DUAL_PAIR, AlgorithmState, LinearMap
from .condat_vu_iteration import CondatVuIteration, identity
from .contraction.condat_vu_scheme import CondatVuScheme
from .contraction.rate_scheme import RateScheme
from .equilibrium_optim import EquilibriumOptim

_NO_TERM = ZeroPrior()


class CondatVuOptim(BaseOptim):
    r"""
    :class:`CondatVu` as an optimiser of deepinv, without the equilibrium.

    For the arguments see :class:`CondatVu`.
    """

    def __init__(
        self,
        K: LinearMap = identity,
        K_adjoint: LinearMap = identity,
        data_fidelity: DataFidelity | list[DataFidelity] | None = None,
        prior: Prior | list[Prior] = _NO_TERM,
        composed_prior: Prior | list[Prior] = _NO_TERM,
        lambda_reg: float = 1.0,
        lambda_composed: float = 1.0,
        stepsize: float = 1.0,
        stepsize_dual: float = 1.0,
        beta: float = 1.0,
        g_param: float | None = None,
        sigma_denoiser: float | None = None,
        custom_init: Callable[[Tensor, Physics], Any] | None = None,
        trainable_params: list[str] | None = None,
        cost_fn: Callable[..., Tensor] | None = None,
        params_algo: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        maps = [_listed(K), _listed(K_adjoint)]
        if (maps[0] == [identity]) != (maps[1] == [identity]):
            raise ValueError(
                "K and K_adjoint must be given together: K_adjoint is the transpose of "
                "K, e.g. K=physics.A and K_adjoint=physics.A_adjoint."
            )
        composed = _priors(composed_prior)
        parameters = {
            "lambda": lambda_reg,
            "lambda_composed": lambda_composed,
            "stepsize": stepsize,
            "stepsize_dual": stepsize_dual,
            "beta": beta,
            "g_param": sigma_denoiser if g_param is None else g_param,
            **(params_algo or {}),
            "K": maps[0],
            "K_adjoint": maps[1],
            "composed_prior": composed,
        }
        if trainable_params is None:
            trainable_params = [
                *("lambda", "lambda_composed", "stepsize", "stepsize_dual", "beta"),
                *(["g_param"] if parameters["g_param"] is not None else []),
            ]

        def at_adjoint(y: Tensor, physics: Physics) -> dict[str, Any]:
            x = physics.A_adjoint(y)
            return {"est": (x, torch.zeros_like(maps[0][0](x)))}

        iterator = CondatVuIteration(cost_fn)
        super().__init__(
            iterator,
            parameters,
            data_fidelity,
            prior,
            custom_init=at_adjoint if custom_init is None else custom_init,
            trainable_params=trainable_params,
            **kwargs,
        )
        self.composed_priors = nn.ModuleList(composed)
        if not all(term.explicit_prior for term in composed):
            self.has_cost = iterator.has_cost = False


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _priors(value: Any) -> list[Prior]:
    """Check the composed priors; there is one, or one a layer."""
    priors = _listed(value)
    for prior in priors:
        if not isinstance(prior, Prior):
            raise TypeError(
                "composed_prior must be a deepinv.optim.Prior or a list of these, got "
                f"{type(prior).__name__}; for a denoiser use "
                "deepinv.optim.PnP(denoiser), for no term deepinv.optim.ZeroPrior()."
            )
    return priors


class CondatVu(EquilibriumOptim, CondatVuOptim):
    r"""
    The primal-dual algorithm of :footcite:t:`condat2013primal` (Algorithm 3.1) and
    :footcite:t:`vu2013splitting` at equilibrium, with any linear map :math:`K`.

    It minimises :math:`f(x) + \lambda g(x) + \lambda_K h(K x)` with a smooth data
    fidelity :math:`f` and two priors that have proximal operators:

    .. math::

        \tilde x_{k+1} &= \operatorname{prox}_{\tau \lambda g}
        \bigl(x_k - \tau \nabla f(x_k) - \tau K^\top u_k\bigr), \\
        \tilde u_{k+1} &= \operatorname{prox}_{\sigma (\lambda_K h)^*}
        \bigl(u_k + \sigma K (2 \tilde x_{k+1} - x_k)\bigr), \\
        (x_{k+1}, u_{k+1}) &= \beta (\tilde x_{k+1}, \tilde u_{k+1})
        + (1 - \beta) (x_k, u_k).

    No linear system is solved, and :math:`h` needs no proximal operator of
    :math:`h \circ K`. With :math:`f = 0` it is the algorithm of Chambolle and Pock, and
    with :math:`h = 0` proximal gradient descent.

    State: :math:`(x, u)`. For convex terms and an :math:`L`-Lipschitz
    :math:`\nabla f` the iterates converge to a solution, if there is one, for

    .. math::

        \frac{1}{\tau} - \sigma \|K\|^2 \ge \frac{L}{2}, \qquad 0 < \beta < 2 -
        \frac{L}{2} \Bigl(\frac{1}{\tau} - \sigma \|K\|^2\Bigr)^{-1},

    Theorem 3.1 of :footcite:t:`condat2013primal`; :math:`\beta = 1` needs the strict
    inequality. They contract at a proved rate if :math:`f + \lambda g` is strongly
    convex and :math:`h` is smooth: see :class:`CondatVuScheme
    <deepinv_equilibrium.optim.contraction.condat_vu_scheme.CondatVuScheme>` for the
    rate and its proof.

    :param Callable K: the linear map :math:`K` on images of shape
        :math:`(B, C, H, W)`; a module becomes a part of the model. Default: identity.
    :param Callable K_adjoint: the transpose of :math:`K`.
    :param deepinv.optim.DataFidelity, list data_fidelity: :math:`f`, differentiable.
    :param deepinv.optim.Prior, list prior: :math:`g`. Default: :math:`g = 0`.
    :param deepinv.optim.Prior, list composed_prior: :math:`h`, a function of
        :math:`K x`; it receives no ``g_param``. Default: :math:`h = 0`.
    :param float, list lambda_reg: weight :math:`\lambda` of :math:`g`. Default: 1.
    :param float, list lambda_composed: weight :math:`\lambda_K` of :math:`h`.
        Default: 1.
    :param float, list stepsize: :math:`\tau`. Default: 1.
    :param float, list stepsize_dual: :math:`\sigma`. Default: 1.
    :param float, list beta: relaxation :math:`\beta`. Default: 1.
    :param custom_init: where to start; default :math:`(A^\top y, 0)`.
    :param trainable_params: names of the parameters to train, among ``lambda_reg``,
        ``lambda_composed``, ``stepsize``, ``stepsize_dual``, ``beta`` and ``g_param``.
        Default: ``None``, all that have a value.

    ``g_param``, ``DEQ`` and the other arguments are those of :class:`PGD
    <deepinv_equilibrium.optim.PGD>`; a list has one entry a layer.

    :raises ValueError: if only one of ``K`` and ``K_adjoint`` is given.
    :raises TypeError: if ``composed_prior`` is not a prior.

    |sep|

    :Example:

    Total variation with nonnegative images, without an inner iteration:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> from deepinv_equilibrium.optim.total_variation import (
    ...     differences, differences_adjoint)
    >>> model = deq.optim.CondatVu(
    ...     differences,
    ...     differences_adjoint,
    ...     data_fidelity=dinv.optim.L2(),
    ...     prior=deq.optim.NonNegativity(),
    ...     composed_prior=dinv.optim.L12Prior(l2_axis=2),
    ...     lambda_composed=0.1,
    ...     stepsize=0.5,
    ...     stepsize_dual=0.15,
    ...     DEQ=deq.Equilibrium(deq.Anderson(rtol=1e-5, max_iter=500)),
    ... )
    >>> y = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> x = model(y, dinv.physics.Denoising())
    >>> tv = deq.optim.total_variation.weighted_tv_prox(y, 0.1, tol=1e-6)
    >>> model.solution.converged.item(), bool((x - tv.x).abs().max() < 1e-3)
    (True, True)
    """

    algorithm_state: ClassVar[AlgorithmState] = PRIMAL_DUAL_PAIR
    rate_scheme: ClassVar[RateScheme | None] = CondatVuScheme()
