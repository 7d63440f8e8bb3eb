"""deepinv's optimisers at equilibrium, under deepinv's names."""

from __future__ import annotations

from typing import ClassVar

import deepinv.optim

from .algorithm_state import (
    DOUGLAS_RACHFORD,
    EXTRAPOLATED,
    MULTIPLIERS,
    PRIMAL_DUAL,
    AlgorithmState,
)
from .contraction.image_schemes import (
    GradientDescentScheme,
    HalfQuadraticScheme,
    ProximalGradientScheme,
)
from .contraction.rate_scheme import RateScheme
from .contraction.splitting_schemes import ADMMScheme, DouglasRachfordScheme
from .contraction.step_intervals import (
    AcceleratedSteps,
    GradientDescentSteps,
    HalfQuadraticSteps,
    ProximalGradientSteps,
    SplittingSteps,
    StepSizeRule,
)
from .equilibrium_optim import EquilibriumOptim


class PGD(EquilibriumOptim, deepinv.optim.PGD):
    r"""
    Proximal gradient descent (forward-backward splitting) at equilibrium, for
    :math:`\min_x f(x) + \lambda g(x)`.

    .. math::

        x_{k+1} = (1 - \beta) x_k + \beta
        \operatorname{prox}_{\gamma \lambda g}(x_k - \gamma \nabla f(x_k))

    with the relaxation :math:`\beta = 1` unless ``params_algo`` has another one. State:
    :math:`x`. Let :math:`\beta = 1`, :math:`f = \tfrac{1}{2} \|Ax - y\|^2` with
    :math:`\mu I \preceq A^\top A \preceq L I`, and let the proximal operator or
    denoiser be :math:`L_D`-Lipschitz. The iteration contracts if
    :math:`L_D \max(|1 - \gamma \mu|, |1 - \gamma L|) < 1`
    :footcite:p:`ryu2019plug`. If the operator is firmly nonexpansive and
    :math:`\gamma < 2/L`, it converges to a fixed point, if there is one, without a
    rate.

    The arguments are those of :class:`deepinv.optim.PGD` and
    :class:`deepinv.optim.BaseOptim`. Without ``DEQ`` the optimiser is deepinv's own.
    State dicts have deepinv's keys and natural values, with and without ``DEQ``. In the
    descriptions, a list has one entry for each iteration, and with ``DEQ`` for each
    layer of the block: ``Equilibrium(layers=K)`` and ``ReTune(layers=K, ...)`` take
    lists of length :math:`K`. With ``DEQ=True`` a list of equal values is one value.

    :param deepinv.optim.DataFidelity, list data_fidelity: data fidelity :math:`f`, one
        or a list. Required with ``DEQ``; without it the default ``None`` means
        :math:`f = 0`.
    :param deepinv.optim.Prior, list prior: prior :math:`g`, one or a list; a denoiser
        enters as ``deepinv.optim.PnP(denoiser)``. Required with ``DEQ``; without it the
        default ``None`` means :math:`g = 0`.
    :param float, list lambda_reg: weight :math:`\lambda \geq 0` of the prior; it has no
        effect on ``PnP``. Default: 1.
    :param float, list, str stepsize: step size :math:`\gamma \geq 0`. With ``DEQ`` it
        may be ``"auto"``: it is computed from the certified spectrum of each physics
        and from the curvature of the prior, and if it is trained, it stays within the
        interval in which the algorithm is proved to contract, converge or decrease its
        energy; see :doc:`/user_guide/certificates`. Default: 1.
    :param float, torch.Tensor, list g_param: parameter of the prior, such as the noise
        level of its denoiser, in the unit of the images. Default: ``None``.
    :param float, torch.Tensor, list sigma_denoiser: another name of ``g_param`` for the
        noise level of a denoiser, nonnegative. If both are given, ``g_param`` counts.
        Default: ``None``.
    :param int max_iter: largest number of iterations. Refused beside ``Equilibrium``
        and ``ReTune``, which have their own. Default: 100.
    :param str crit_conv: what the stopping criterion measures: ``"residual"``, the
        relative change of the iterate, or, only without ``DEQ``, ``"cost"``, the
        relative change of the cost. Refused beside ``Equilibrium`` and ``ReTune``.
        Default: ``"residual"``.
    :param float thres_conv: threshold of the stopping criterion. With a deepinv
        ``DEQConfig`` it is the relative tolerance of the backward, and with
        ``early_stop`` also of the forward. Refused beside ``Equilibrium`` and
        ``ReTune``. Default: ``1e-5``.
    :param bool early_stop: whether to stop when the criterion is met; else all
        ``max_iter`` iterations are made. Refused beside ``Equilibrium`` and ``ReTune``.
        Default: ``False``.
    :param deepinv.optim.BacktrackingConfig, bool backtracking: line search for the step
        size. Refused with ``DEQ``, because the step would change along the iterations.
        Default: ``None``, no line search.
    :param dict custom_metrics: functions ``metric(values, x_prev, x)`` by name, which
        ``compute_metrics=True`` evaluates for each sample and iteration. Default:
        ``None``.
    :param Callable custom_init: function ``custom_init(y, physics)`` that returns where
        to start: an image, a tuple of iterates, or ``{"est": (x_0, ...)}``. The
        argument ``init`` of the call takes precedence. Default: ``None``,
        :math:`A^\top y`.
    :param bool g_first: whether an iteration starts with the step on the prior:
        :math:`f` and :math:`g` exchange their roles, and no rate is proved. Default:
        ``False``.
    :param bool unfold: whether to train through all ``max_iter`` iterations. ``DEQ``
        implies it, as in deepinv. Default: ``False``.
    :param list trainable_params: names of the parameters to train with ``unfold`` or
        ``DEQ``, among ``"stepsize"``, ``"lambda_reg"``, ``"g_param"`` (or
        ``"sigma_denoiser"``), ``"beta"`` and others of ``params_algo``. With ``DEQ``
        they are learned as logarithms relative to the given values: they stay positive,
        and weight decay pulls them back to the given values. Default: ``None``, all
        that have a value; ``[]`` trains none.
    :param deepinv.optim.DEQConfig, bool DEQ: how the fixed point is found and
        differentiated: :class:`Equilibrium <deepinv_equilibrium.Equilibrium>` or
        :class:`ReTune <deepinv_equilibrium.ReTune>`. deepinv's own ``DEQConfig``, or
        ``True`` for its defaults, keeps deepinv's meaning with the solvers of this
        package; another ``eps_backward`` than the default is refused. ``model.DEQ``
        may be set later. Default: ``None``, deepinv's own optimiser.
    :param deepinv.optim.AndersonAccelerationConfig, bool anderson_acceleration:
        Anderson acceleration of the iterations. With a ``DEQConfig`` its
        ``history_size`` and ``beta`` go to
        :class:`Anderson <deepinv_equilibrium.Anderson>`; another ``eps`` than the
        default is refused. Refused beside ``Equilibrium`` and ``ReTune``. Default:
        ``None``, no acceleration.
    :param Callable cost_fn: function
        ``cost_fn(x, data_fidelity, prior, params, y, physics)`` that returns one cost a
        sample, for the metrics. Default: ``None``, :math:`f(x) + \lambda g(x)` if the
        prior is explicit.
    :param dict params_algo: the parameters of the algorithm, by the keys
        ``"stepsize"``, ``"lambda"``, ``"g_param"`` and ``"beta"``; if given,
        ``stepsize``, ``lambda_reg``, ``g_param`` and ``sigma_denoiser`` are ignored.
        Default: ``None``.
    :param Callable get_output: function of deepinv's iterate ``{"est": (x, ...)}`` that
        returns the output. No stability is proved for another output. Default: the
        image ``X["est"][0]``.
    :param bool verbose: whether to print the report of every solve; without ``DEQ``,
        deepinv's messages. Default: ``False``.
    :param bool show_progress_bar: whether to show a progress bar. Default: ``False``.
    :raises TypeError: if an argument is unknown or has a wrong type.
    :raises ValueError: if an argument is out of range, a list has another length than
        the block, or an option is refused with ``DEQ``; the message names the remedy.

    |sep|

    :Example:

    >>> import torch, deepinv as dinv, deepinv_equilibrium as deq
    >>> physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    >>> model = deq.optim.PGD(
    ...     data_fidelity=dinv.optim.L2(),
    ...     prior=dinv.optim.Tikhonov(),
    ...     stepsize=0.5,
    ...     DEQ=deq.Equilibrium(deq.Anderson(rtol=1e-6)),
    ... )
    >>> y = torch.ones(1, 1, 4, 4)
    >>> print(round(model(y, physics).mean().item(), 4))  # of x = y / 2
    0.5
    """

    prior_gradient_if_g_first: ClassVar[bool] = True
    rate_scheme: ClassVar[RateScheme | None] = ProximalGradientScheme()
    step_size_rule: ClassVar[StepSizeRule | None] = ProximalGradientSteps()


class GD(EquilibriumOptim, deepinv.optim.GD):
    r"""
    Gradient descent at equilibrium.

    .. math::

        x_{k+1} = x_k - \gamma \bigl( \nabla f(x_k) + \lambda \nabla g(x_k) \bigr)

    State: :math:`x`. With :math:`\mu I \preceq \nabla^2 f \preceq L I` and an
    :math:`\epsilon`-Lipschitz :math:`\lambda \nabla g` the iteration contracts if
    :math:`\max(|1 - \gamma \mu|, |1 - \gamma L|) + \gamma \epsilon < 1`, which requires
    :math:`\epsilon < \mu`. If the curvature of :math:`\lambda g` is known to be in
    :math:`[m, M]`, as that of
    :class:`~deepinv_equilibrium.models.RidgeRegulariser`, the rate is
    :math:`\max(|1 - \gamma (\mu + m)|, |1 - \gamma (L + M)|)`, which is below 1 for
    a convex :math:`g` and :math:`\mu > 0`. The prior must have a gradient. A denoiser
    enters through :class:`deepinv.optim.RED`, not through ``PnP``.

    The arguments are those of :class:`PGD`, without ``g_first``.

    :raises ValueError: if the prior is :class:`deepinv.optim.PnP`.
    """

    prior_gradient: ClassVar[bool] = True
    rate_scheme: ClassVar[RateScheme | None] = GradientDescentScheme()
    step_size_rule: ClassVar[StepSizeRule | None] = GradientDescentSteps()


class HQS(EquilibriumOptim, deepinv.optim.HQS):
    r"""
    Half-quadratic splitting at equilibrium.

    .. math::

        x_{k+1} = (1 - \beta) x_k + \beta \operatorname{prox}_{\gamma \lambda g}
        \bigl( \operatorname{prox}_{\gamma f}(x_k) \bigr)

    with the relaxation :math:`\beta = 1` unless ``params_algo`` has another one. State:
    :math:`x`. With an :math:`L_D`-Lipschitz proximal operator or denoiser,
    :math:`\mu I \preceq \nabla^2 f` and :math:`\beta = 1` it contracts if
    :math:`L_D / (1 + \gamma \mu) < 1`. The fixed point minimises :math:`\lambda g` plus
    the Moreau envelope of :math:`f` with parameter :math:`\gamma`, not
    :math:`f + \lambda g`.

    The arguments are those of :class:`PGD`.
    """

    rate_scheme: ClassVar[RateScheme | None] = HalfQuadraticScheme()
    step_size_rule: ClassVar[StepSizeRule | None] = HalfQuadraticSteps()


class ADMM(EquilibriumOptim, deepinv.optim.ADMM):
    r"""
    Alternating direction method of multipliers at equilibrium.

    .. math::

        u_{k+1} &= \operatorname{prox}_{\gamma f}(x_k - z_k) \\
        x_{k+1} &= \operatorname{prox}_{\gamma \lambda g}(u_{k+1} + z_k) \\
        z_{k+1} &= z_k + \beta (u_{k+1} - x_{k+1})

    State: :math:`(x, z)`. For :math:`\beta = 1` the sum :math:`x + z` is the
    Douglas-Rachford variable, in which rates hold. For another :math:`\beta`, which may
    be trained, the sum does not determine the next iterate, and no rate is proved.

    The arguments are those of :class:`PGD`.

    :param float, list beta: relaxation :math:`\beta`. Default: 1.
    """

    algorithm_state: ClassVar[AlgorithmState] = MULTIPLIERS
    rate_scheme: ClassVar[RateScheme | None] = ADMMScheme()
    step_size_rule: ClassVar[StepSizeRule | None] = SplittingSteps()


class DRS(EquilibriumOptim, deepinv.optim.DRS):
    r"""
    Douglas-Rachford splitting at equilibrium.

    .. math::

        u_{k+1} &= \operatorname{prox}_{\gamma f}(z_k) \\
        x_{k+1} &= \operatorname{prox}_{\gamma \lambda g}(2 u_{k+1} - z_k) \\
        z_{k+1} &= z_k + \beta (x_{k+1} - u_{k+1})

    State: :math:`z`; the image :math:`x_{k+1}` is an output of the step. With a firmly
    nonexpansive denoiser, :math:`\mu I \preceq \nabla^2 f \preceq L I`,
    :math:`\mu > 0` and :math:`\beta = 1` it contracts at the rate
    :math:`\tfrac12 + \tfrac12 \max\bigl(\tfrac{1 - \gamma\mu}{1 + \gamma\mu},
    \tfrac{\gamma L - 1}{1 + \gamma L}\bigr)`.

    The arguments are those of :class:`PGD`.

    :param float, list beta: relaxation :math:`\beta`. Default: 1.
    """

    algorithm_state: ClassVar[AlgorithmState] = DOUGLAS_RACHFORD
    rate_scheme: ClassVar[RateScheme | None] = DouglasRachfordScheme()
    step_size_rule: ClassVar[StepSizeRule | None] = SplittingSteps()


class PDCP(EquilibriumOptim, deepinv.optim.PDCP):
    r"""
    The primal-dual algorithm of Chambolle and Pock at equilibrium, for
    :math:`\min_x F(K x) + \lambda G(x)` with the data fidelity :math:`F` and the prior
    :math:`G`.

    .. math::

        u_{k+1} &= \operatorname{prox}_{\sigma F^*}(u_k + \sigma K z_k) \\
        x_{k+1} &= \operatorname{prox}_{\tau \lambda G}(x_k - \tau K^\top u_{k+1}) \\
        z_{k+1} &= x_{k+1} + \beta (x_{k+1} - x_k)

    State: :math:`(x, z, u)`. For convex :math:`F, G` and :math:`\beta = 1` it converges
    if :math:`\sigma \tau \|K\|^2 < 1` :footcite:p:`chambolle2011first`; no rate is
    claimed. :class:`CondatVu` treats a smooth data fidelity by gradient steps and has a
    rate. The dual variable starts at :math:`y`, as in deepinv, if :math:`y` has the
    shape of :math:`K x`, and else at 0.

    The arguments are those of :class:`PGD`, with ``stepsize`` for :math:`\tau`.

    :param Callable K: the linear map :math:`K`. A module becomes a part of the model.
        Default: identity.
    :param Callable K_adjoint: the transpose :math:`K^\top`. Default: identity.
    :param float, list stepsize_dual: step size :math:`\sigma` of the dual variable.
        Default: 1.
    :param float, list beta: extrapolation :math:`\beta`. Default: 1.
    """

    algorithm_state: ClassVar[AlgorithmState] = PRIMAL_DUAL


class MD(EquilibriumOptim, deepinv.optim.MD):
    r"""
    Mirror descent at equilibrium.

    .. math::

        x_{k+1} = \nabla h^* \bigl( \nabla h(x_k)
        - \gamma (\nabla f(x_k) + \lambda \nabla g(x_k)) \bigr)

    State: :math:`x`. With Burg's entropy or the negative entropy as potential
    :math:`h`, the iterates are positive. If the proposal of an accelerated solver is
    not positive, the plain step replaces it. If a plain step is not positive, the
    sample ends as ``DIVERGED``. No rate is claimed.

    The arguments are those of :class:`PGD`, without ``g_first``.

    :param deepinv.optim.Bregman bregman_potential: potential :math:`h`. Default:
        ``deepinv.optim.BregmanL2()``, :math:`h(x) = \tfrac12 \|x\|^2`.
    :raises ValueError: if the prior is :class:`deepinv.optim.PnP`.
    """

    prior_gradient: ClassVar[bool] = True


class PMD(EquilibriumOptim, deepinv.optim.PMD):
    r"""
    Proximal mirror descent at equilibrium.

    .. math::

        x_{k+1} = (1 - \beta) x_k + \beta
        \operatorname{prox}^h_{\gamma \lambda g} \bigl(
        \nabla h^* ( \nabla h(x_k) - \gamma \nabla f(x_k) ) \bigr)

    with the relaxation :math:`\beta = 1` unless ``params_algo`` has another one. State:
    :math:`x`, positive for the entropies as in :class:`MD`. No rate is claimed.

    The arguments are those of :class:`PGD`.

    :param deepinv.optim.Bregman bregman_potential: potential :math:`h`. Default:
        ``deepinv.optim.BregmanL2()``, :math:`h(x) = \tfrac12 \|x\|^2`.
    """

    prior_gradient_if_g_first: ClassVar[bool] = True


class FISTA(EquilibriumOptim, deepinv.optim.FISTA):
    r"""
    Accelerated proximal gradient descent at equilibrium.

    .. math::

        x_{k+1} &= \operatorname{prox}_{\gamma \lambda g}(z_k - \gamma \nabla f(z_k)) \\
        z_{k+1} &= x_{k+1} + \alpha_k (x_{k+1} - x_k), \qquad
        \alpha_k = \frac{k + a - 1}{k + a}

    State: :math:`(x, z)`. The counter :math:`k` is reset at the start of every block,
    so that the block is a fixed map: restarted FISTA. A block of one iteration has the
    constant momentum :math:`(a - 1) / a`. The block need not contract; no rate is
    claimed.

    The arguments are those of :class:`PGD`.

    :param float, list a: momentum parameter :math:`a > 2`. Default: 3.
    """

    algorithm_state: ClassVar[AlgorithmState] = EXTRAPOLATED
    prior_gradient_if_g_first: ClassVar[bool] = True
    step_size_rule: ClassVar[StepSizeRule | None] = AcceleratedSteps()
